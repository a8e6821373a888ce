"""Pruned models beside the dense one, in 8 bits without tiles: ``python -m
tilewright.tools.bench_sparse_models dense.onnx pruned.onnx ... --typical batch=1,seq=128``.

Every model is compiled for dot products of bytes (VNNI, no AMX), products in `w8a8-zeros` where a
kernel of its zeros is offered, else in `w8a8-sym`, tables in 8 bits. All are timed in turns, one
thread, medians; columns say how many times as fast as the first model each is, as a whole and in
the products whose weights have zeros, and the bytes of packed weights beside one byte a weight that
is not zero.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter

import numpy as np

from tilewright.backends import profile, target
from tilewright.backends.llvm.lowering.lower import questions
from tilewright.compiler.driver import compile_model
from tilewright.compiler.options import Options
from tilewright.passes.quantization.planned import Planned
from tilewright.runtime.session import Session
from tilewright.tools.bench.record import record
from tilewright.tools.bench_sparse import DOTS, TILES
from tilewright.tools.cli.feeds import FeedOptions, make_feeds

ZEROS = "w8a8-zeros"
FORMATS = (ZEROS, "w8a8-sym", "w8-g64")
"""The first that an operation can have; the last one is that of tables."""

RUNS = 15
"""Of a profile."""


@dataclass(frozen=True)
class Made:
    """An artifact; ``pruned``: nodes of products whose weights have zeros; ``there``: weights that
    are not zero."""

    path: Path
    pruned: frozenset[str]
    there: int


@dataclass(frozen=True)
class Row:
    """A model: milliseconds of all and of the products that were pruned in any; times as fast as
    the first model; megabytes of the file, of packed weights, of one byte a weight."""

    model: str
    ms: float
    products_ms: float
    of_dense: float
    products_of_dense: float
    file_mb: float
    weights_mb: float
    there_mb: float


def compiled(model: Path, folder: Path, options: Options) -> Made:
    """The model in 8 bits."""
    target.TARGETS[DOTS.name] = DOTS
    profile.shipped()[DOTS.name] = profile.shipped()[TILES.name]
    graph = compile_model(model, None, options).graph
    plan: dict[str, str] = {}
    pruned: set[str] = set()
    there: dict[object, int] = {}
    for question in questions(graph, DOTS, Planned(graph)):
        numerics = {candidate.numerics for candidate in question.candidates}
        name = next((n for n in FORMATS if n in numerics), None)
        if name is None or len(question.parts) != 1:
            continue
        ((source, constant),) = question.parts
        # Tables that are multiplied too are stored once.
        there[question.stored] = int(np.count_nonzero(graph.weights.array(constant)))
        plan[source] = name
        if name == ZEROS:
            pruned.add(source)
    listed = folder / f"{model.stem}.json"
    listed.write_text(json.dumps({"variants": {DOTS.name: {"formats": plan}}}))
    path = folder / f"{model.stem}.tw"
    compile_model(model, path, replace(options, stop_after=None, plan=str(listed), jobs=0))
    return Made(path, frozenset(pruned), sum(there.values()))


def measure(every: Sequence[Made], sizes: dict[str, int], seconds: float) -> list[Row]:
    """All in turns, on random feeds of `sizes`."""
    sessions = [Session(made.path, threads=1) for made in every]
    feeds = make_feeds("model", sessions[0].manifest, FeedOptions(shape=sizes), random=True)
    times: list[list[float]] = [[] for _ in every]
    end = perf_counter() + seconds
    while perf_counter() < end or len(times[0]) < 5:
        for session, found in zip(sessions, times, strict=True):
            start = perf_counter()
            session.run(None, feeds)
            found.append(1e3 * (perf_counter() - start))
    nodes = {node for made in every for source in made.pruned for node in source.split(", ")}
    products = [
        sum(
            row.ms / row.calls
            for row in session.profile(feeds, RUNS)
            if nodes & set(row.source.split(", "))
        )
        for session in sessions
    ]
    rows = []
    for made, found, own in zip(every, times, products, strict=True):
        with zipfile.ZipFile(made.path) as file:
            packed = file.getinfo("weights.safetensors").file_size
        rows.append(
            Row(
                model=made.path.stem,
                ms=median(found),
                products_ms=own,
                of_dense=median(times[0]) / median(found),
                products_of_dense=products[0] / own,
                file_mb=made.path.stat().st_size / 1e6,
                weights_mb=packed / 1e6,
                there_mb=made.there / 1e6,
            )
        )
    return rows


def text(row: Row) -> str:
    """A line."""
    return (
        f"{row.model:24s} {row.ms:7.2f} ms, {row.of_dense:5.2f} times the first; products "
        f"{row.products_ms:7.2f} ms, {row.products_of_dense:5.2f} times; file {row.file_mb:6.2f} "
        f"MB, weights {row.weights_mb:6.2f} MB, a byte each {row.there_mb:6.2f} MB"
    )


def main() -> None:
    """Print a row of each model, and record them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("models", nargs="+", type=Path, help="the dense one first")
    parser.add_argument("--typical", required=True, help="NAME=SIZE,...")
    parser.add_argument("--last-token", action="append", default=[], metavar="OUTPUT")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--work", type=Path, help="keep artifacts here")
    parser.add_argument("--record", type=Path)
    options = parser.parse_args()
    if not target.runs_here(DOTS):
        parser.error("this machine does not multiply bytes")
    pairs = (part.split("=") for part in options.typical.split(","))
    sizes = {name: int(size) for name, size in pairs}
    wanted = Options(
        targets=(DOTS.name,),
        typical=sizes,
        last_token=tuple(options.last_token),
        stop_after="passes",
    )
    with TemporaryDirectory(prefix="tilewright-") as temporary:
        folder = options.work or Path(temporary)
        every = [compiled(model, folder, wanted) for model in options.models]
        rows = measure(every, sizes, options.seconds)
    for row in rows:
        print(text(row))
    if options.record:
        command = shlex.join(
            ["python", "-m", "tilewright.tools.bench_sparse_models", *sys.argv[1:]]
        )
        record(options.record, rows, command=command)


if __name__ == "__main__":
    main()

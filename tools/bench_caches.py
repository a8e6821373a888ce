"""A decoder with key-value caches in each of their formats: ``python -m
tilewright.tools.bench_caches MODEL.onnx --past past=128,1024,2048 --shape batch=1``.

Three artifacts, with caches in f32, int8 and int4, take the same random token and the same random
past, encoded for each, in turn; medians. Beside the times the bytes of all caches that a step is
given, and how far its other outputs are from those of caches in f32 (relative L2). One thread
unless told otherwise.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from tilewright.compiler.driver import compile_model
from tilewright.compiler.formats.caches import CACHES
from tilewright.compiler.options import Options
from tilewright.runtime.session import Session
from tilewright.tools.bench.record import record
from tilewright.tools.bench.timing import interleave
from tilewright.tools.cli.feeds import FeedOptions, make_feeds

Feeds = Mapping[str, np.ndarray]

PLAIN = "f32"
"""Caches as the model has them."""

SOME = 15
"""Runs of one artifact in a row: a step begins with the caches of the CPU as the last one left
them, as in a loop that decodes."""


@dataclass(frozen=True)
class Row:
    """Of one number of past positions and one format of caches. times: as fast as with f32."""

    past: int
    format: str
    threads: int
    milliseconds: float
    times: float
    cache_bytes: int
    off: float


def artifacts(model: str, folder: Path, typical: Mapping[str, int]) -> dict[str, Path]:
    """One artifact a format, by its name; those that are in `folder` already are taken."""
    found = {}
    for name in (PLAIN, *CACHES):
        found[name] = folder / f"{Path(model).stem}.{name}.tw"
        if not found[name].exists():
            kind = None if name == PLAIN else name
            compile_model(model, str(found[name]), Options(typical=typical, kv_cache=kind))
    return found


def encoded(session: Session, feeds: Feeds) -> dict[str, np.ndarray]:
    """Feeds of a model with caches in f32, as `session` takes them."""
    made = dict(feeds)
    for cache in session.caches:
        if cache.past is not None and cache.past_scale is not None:
            codes, scales = CACHES[cache.format].encode(made[cache.past])
            made[cache.past] = np.ascontiguousarray(codes)
            made[cache.past_scale] = np.ascontiguousarray(scales)
    return made


def bound(session: Session, feeds: Feeds) -> Any:
    """A binding of feeds, and of memory for all outputs."""
    binding = session.bind()
    for name, array in feeds.items():
        binding.bind_input(name, array)
    outputs = session.run(None, dict(feeds))
    for described, array in zip(session.get_outputs(), outputs, strict=True):
        binding.bind_output(described.name, np.empty_like(array))
    return binding


def rows(
    sessions: Mapping[str, Session], feeds: Feeds, past: int, threads: int, seconds: float
) -> Iterator[Row]:
    """The rows of one number of past positions."""
    links = [
        link for cache in sessions[next(iter(CACHES))].caches for link in cache.links if all(link)
    ]
    kept, given = ({link[i] for link in links} for i in (0, 1))
    every = {name: encoded(session, feeds) for name, session in sessions.items()}
    outputs = {name: _others(session, every[name], kept) for name, session in sessions.items()}

    def some(binding: Any) -> None:
        for _ in range(SOME):
            binding.run()

    runs = {name: partial(some, bound(session, every[name])) for name, session in sessions.items()}
    found = interleave(runs, rounds=10000, budget_s=seconds)
    for name in sessions:
        own = found[name].median_ms / SOME
        yield Row(
            past=past,
            format=name,
            threads=threads,
            milliseconds=round(own, 4),
            times=round(found[PLAIN].median_ms / SOME / own, 3),
            cache_bytes=sum(a.nbytes for n, a in every[name].items() if n in given),
            off=float(f"{_distance(outputs[name], outputs[PLAIN]):.3g}"),
        )


def _others(session: Session, feeds: Feeds, kept: set[str]) -> np.ndarray:
    """All elements of the outputs that are no caches."""
    names = [output.name for output in session.get_outputs()]
    pairs = zip(names, session.run(None, dict(feeds)), strict=True)
    return np.concatenate([np.ravel(array) for name, array in pairs if name not in kept])


def _distance(a: np.ndarray, b: np.ndarray) -> float:
    wide = b.astype(np.float64)
    return float(np.linalg.norm(a - wide) / (np.linalg.norm(wide) or 1.0))


def main() -> None:
    """Print a line for each number of past positions and format, and record them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("model")
    parser.add_argument("--past", required=True, metavar="NAME=SIZE,..", help="of past positions")
    parser.add_argument("--shape", default="", metavar="NAME=SIZE,..", help="of other dimensions")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=3.0, help="for each size")
    parser.add_argument("--work", type=Path, help="keep artifacts here for the next call")
    parser.add_argument("--record", type=Path)
    options = parser.parse_args()
    dim, _, sizes = options.past.partition("=")
    counts = [int(size) for size in sizes.split(",")]
    shape = {
        name: int(size)
        for name, _, size in (part.partition("=") for part in options.shape.split(",") if part)
    }
    every: list[Row] = []
    with TemporaryDirectory(prefix="tilewright-") as temporary:
        folder = options.work or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        # Kernels are chosen for the sizes in the middle: one artifact serves them all.
        typical = {**shape, dim: sorted(counts)[len(counts) // 2]}
        made = artifacts(options.model, folder, typical)
        opened = {name: Session(path, threads=options.threads) for name, path in made.items()}
        for count in counts:
            told = FeedOptions(shape={**shape, dim: count})
            feeds = make_feeds(options.model, opened[PLAIN].manifest, told, random=True)
            for row in rows(opened, feeds, count, options.threads, options.seconds):
                every.append(row)
                print(
                    f"past {row.past:6d}  {row.format:5s} {row.milliseconds:8.3f} ms"
                    f"  {row.times:5.2f} times as fast  {row.cache_bytes:10,} bytes"
                    f"  {100 * row.off:.2g} % off",
                    flush=True,
                )
        for session in opened.values():
            session.close()
    if options.record:
        command = shlex.join(["python", "-m", "tilewright.tools.bench_caches", *sys.argv[1:]])
        record(options.record, every, command=command)


if __name__ == "__main__":
    main()

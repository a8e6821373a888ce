"""Kernels of weight formats beside each other: ``python -m tilewright.tools.bench_formats``.

For every shape and number of rows, each format whose name ``--formats`` matches and each kernel
family that reads it, the spec that the cost model puts first; and the fastest kernel of raw floats
in the class 1e-2. In turn, lower quartiles: ``hot`` with weights where the last launch left them,
``cold`` with those of many copies in turn, from L3 or DRAM. One thread. The best of each row has a
star, and what is predicted stands beside it: where a format wins, and whether the model knows.
"""

from __future__ import annotations

import argparse
import re
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

from tilewright.backends import target as targets
from tilewright.backends.cost.model import predict
from tilewright.backends.kernels.candidates import Candidate, candidates
from tilewright.backends.kernels.tasks import MatmulTask
from tilewright.backends.llvm.jit import load
from tilewright.backends.profile import MachineProfile, profile_for
from tilewright.compiler.formats import formats
from tilewright.tools.bench.launches import Launch, compile_family, launch
from tilewright.tools.bench.record import record

SHAPES = ("256x256", "1024x1024", "4096x4096", "4096x11008")
ROWS = (1, 4, 16)


@dataclass(frozen=True)
class Row:
    """Microseconds of a kernel, and what the cost model says of them; megabytes of its weights."""

    target: str
    m: int
    k: int
    n: int
    family: str
    format: str
    layout: str
    megabytes: float
    hot_us: float
    cold_us: float
    hot_predicted_us: float
    cold_predicted_us: float


def chosen(
    task: MatmulTask, dims: tuple[int, ...], target: targets.Target, match: str
) -> list[Candidate]:
    """Of each family, format and layout the candidate that is predicted fastest; of raw floats one,
    that any weights have."""
    profile = profile_for(target)
    names = frozenset(name for name in formats() if re.fullmatch(match, name))
    best: dict[tuple[str, str, str], tuple[float, Candidate]] = {}
    for c in candidates(task, target, 1e-2, names):
        if c.family.suits is not None:
            continue
        layout = c.layout.name if c.layout else ""
        key = (c.family.name, c.format, layout) if c.format else ("", "", "")
        guess = predict(c.family, c.spec, dims, target, profile)
        if key not in best or guess < best[key][0]:
            best[key] = (guess, c)
    return [c for _, c in best.values()]


def rows(
    target: targets.Target,
    shapes: list[tuple[int, int]],
    counts: list[int],
    match: str,
    seconds: float,
    folder: Path,
) -> Iterator[list[Row]]:
    """The rows of one shape and number of rows after another; ``seconds`` for each."""
    profile = profile_for(target)
    for k, n in shapes:
        for m in counts:
            task, dims = MatmulTask(k, n), (m, k, n)
            found = chosen(task, dims, target, match)
            paths = [compile_family(c.family.name, [c.spec], target, folder) for c in found]
            runs = []
            for c, path in zip(found, paths, strict=True):
                kernel = load(path.read_bytes(), target).kernel("kernel0")
                runs.append([launch(c, task, dims, kernel, cold=cold) for cold in (False, True)])
            times = _times([run for pair in runs for run in pair], seconds)
            yield [
                Row(
                    target=target.name,
                    m=m,
                    k=k,
                    n=n,
                    family=c.family.name,
                    format=c.numerics,
                    layout=c.layout.name if c.layout else "",
                    megabytes=c.layout.bytes / 1e6 if c.layout else 0.0,
                    hot_us=times[2 * i] * 1e6,
                    cold_us=times[2 * i + 1] * 1e6,
                    hot_predicted_us=_predicted(c, dims, target, profile, False),
                    cold_predicted_us=_predicted(c, dims, target, profile, True),
                )
                for i, c in enumerate(found)
            ]


def _predicted(
    c: Candidate,
    dims: tuple[int, ...],
    target: targets.Target,
    profile: MachineProfile,
    cold: bool,
) -> float:
    return predict(c.family, c.spec, dims, target, profile, cold=cold) * 1e6


def _times(runs: list[Launch], seconds: float) -> list[float]:
    """Lower quartiles. Hot ones run three times in a row, the first of which brings the weights."""
    found: list[list[float]] = [[] for _ in runs]
    end = perf_counter() + seconds
    while perf_counter() < end or len(found[0]) < 5:
        for i, run in enumerate(runs):
            if i % 2 == 0:
                run.run()
            found[i].append(run.run(2 if i % 2 == 0 else 1))
    return [sorted(times)[len(times) // 4] for times in found]


def text(found: list[Row]) -> str:
    """Lines of one shape, the fastest marked."""
    first = found[0]
    out = [f"{first.target} {first.m}x{first.k}x{first.n}"]
    hot, cold = min(r.hot_us for r in found), min(r.cold_us for r in found)
    for r in sorted(found, key=lambda r: r.hot_us):
        marks = ("*" if r.hot_us == hot else " ", "*" if r.cold_us == cold else " ")
        out.append(
            f"  {r.family:20s} {r.format:12s} {r.layout:22s} {r.megabytes:7.2f} MB"
            f"  hot {r.hot_us:9.1f}{marks[0]} ({r.hot_predicted_us:9.1f})"
            f"  cold {r.cold_us:9.1f}{marks[1]} ({r.cold_predicted_us:9.1f}) us"
        )
    return "\n".join(out)


def main() -> None:
    """Print a table of each shape and number of rows, and record all rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--target", default="native")
    parser.add_argument("--formats", default=".*", help="regular expression of whole names")
    parser.add_argument("--shapes", default=",".join(SHAPES), help="KxN,KxN,...")
    parser.add_argument("--rows", default=",".join(map(str, ROWS)))
    parser.add_argument("--seconds", type=float, default=0.5, help="for each shape and rows")
    parser.add_argument("--work", type=Path, help="keep compiled kernels here for the next call")
    parser.add_argument("--record", type=Path)
    options = parser.parse_args()
    sizes = [tuple(map(int, shape.split("x"))) for shape in options.shapes.split(",")]
    shapes = [(k, n) for k, n in sizes]
    counts = [int(m) for m in options.rows.split(",")]
    every: list[Row] = []
    with TemporaryDirectory(prefix="tilewright-") as temporary:
        folder = options.work or Path(temporary)
        for target in targets.parse(options.target):
            wanted = (target, shapes, counts, options.formats, options.seconds, folder)
            for found in rows(*wanted):
                every += found
                print(text(found), flush=True)
    if options.record:
        command = shlex.join(["python", "-m", "tilewright.tools.bench_formats", *sys.argv[1:]])
        record(options.record, every, command=command)


if __name__ == "__main__":
    main()

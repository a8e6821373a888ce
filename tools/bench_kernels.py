"""Kernels against the machine's bare rate: ``python -m tilewright.tools.bench_kernels``.

For each shape of bench_kernel_shapes and every family that computes it, in each of its accuracy
classes, the variant that the cost model puts first. Beside it the bare rate of the unit that
multiplies: a micro-kernel loop on operands that stay in L1, and with --torch PyTorch's linear
layer, in bf16 for kernels of that class, else in f32. One thread; all of them in turn, so that
frequency and neighbours hit all alike; lower quartiles (best) and medians, since tiles clock down
within milliseconds. Operands stay where the last run left them. Never part of a test: shared
machines are too noisy for that.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import numpy as np
from llvmlite import ir

from tilewright.backends import target as targets
from tilewright.backends.cost import probes
from tilewright.backends.cost.model import predict
from tilewright.backends.kernels.candidates import Candidate
from tilewright.backends.kernels.tasks import MatmulTask
from tilewright.backends.llvm.jit import compile_module, load
from tilewright.backends.profile import profile_for
from tilewright.tools import bench_kernel_shapes
from tilewright.tools.bench.cost_points import Shape
from tilewright.tools.bench.launches import compile_family, launch
from tilewright.tools.bench.linear import Layer, torch_linear
from tilewright.tools.bench.record import record

LOOP_S = 100e-6
"""About what a bare loop runs."""


@dataclass(frozen=True)
class Row:
    """Microseconds of a kernel: lower quartile and median of its runs. ``issued``: operations with
    padding and partial products, by those of the mathematical product. ``best_share``, ``share``:
    issued operations a second by those of the bare loop, likewise. ``torch``: times as fast as
    PyTorch, by medians."""

    shape: str
    family: str
    accuracy: float
    unit: str
    best_us: float
    median_us: float
    gops: float
    issued: float
    best_share: float
    share: float
    gb_s: float
    torch: float | None


@dataclass(frozen=True)
class Loop:
    """A bare loop: seconds of a run, and its operations."""

    run: Callable[[], object]
    operations: int


def kernels(shape: Shape, target: targets.Target) -> list[Candidate]:
    """Of each family and accuracy class the one that is predicted fastest."""
    profile = profile_for(target)
    found: dict[tuple[str, float], tuple[float, Candidate]] = {}
    for c in shape.candidates(target):
        guess = predict(c.family, c.spec, shape.dims, target, profile, cold=False)
        known = found.get((c.family.name, c.accuracy))
        if known is None or guess < known[0]:
            found[c.family.name, c.accuracy] = (guess, c)
    return [c for _, c in found.values()]


def loops(target: targets.Target) -> Mapping[str, Loop]:
    """The bare loop of every unit of the target."""
    module = ir.Module("loops")
    made = probes.multiplications(module, target)
    library = compile_module(module, target)
    # Not zeros: the clock depends on the bits that toggle.
    values = np.random.default_rng(0).standard_normal(probes.SCRATCH // 4 + 16).astype("f4")
    halves = (values.view(np.uint32) >> 16).astype(np.uint16)
    raw = np.concatenate([halves, halves]).view(np.uint8)
    scratch = raw[-raw.ctypes.data % 64 :]
    found = {}
    for unit, probe in made.items():
        kernel = library.kernel(probe.name)
        kernel(0, 0, 0, 16, scratch.ctypes.data)
        begin = perf_counter()
        kernel(0, 0, 0, 64, scratch.ctypes.data)
        turns = max(1, round(64 * LOOP_S / (perf_counter() - begin)))

        def run(k: Any = kernel, turns: int = turns, scratch: np.ndarray = scratch) -> None:
            k(0, 0, 0, turns, scratch.ctypes.data)

        found[unit] = Loop(run, probe.operations * turns)
    return found


def rows(
    target: targets.Target, match: str, seconds: float, torch: bool, folder: Path
) -> Iterator[Row]:
    """Every kernel whose label holds ``match``, timed for ``seconds`` in all."""
    todo = [
        (shape, candidate)
        for shape in bench_kernel_shapes.shapes()
        for candidate in kernels(shape, target)
        if match in f"{candidate.family.name} {shape.label}"
    ]
    bare = loops(target) if todo else {}
    codes = [compile_family(c.family.name, [c.spec], target, folder) for _, c in todo]
    for (shape, c), code in zip(todo, codes, strict=True):
        kernel = launch(
            c, shape.task, shape.dims, load(code.read_bytes(), target).kernel("kernel0"), cold=False
        )
        cost = c.family.cost(c.spec, shape.dims, target)
        loop = bare[cost.unit]
        peer = None
        if torch and isinstance(shape.task, MatmulTask):
            layer = Layer(shape.dims[0], shape.task.k, shape.task.n, 1)
            peer = partial(torch_linear(layer, "bf16" if c.accuracy > 1e-3 else "f32"), {})
        own, after, theirs = _times(kernel.run, loop.run, peer, seconds / len(todo))
        issued = cost.issued or cost.flops

        def share(
            of: Callable[[list[float]], float],
            own: list[float] = own,
            after: list[float] = after,
            ratio: float = issued / loop.operations,
        ) -> float:
            return ratio * of(after) / of(own)

        yield Row(
            shape=shape.label,
            family=c.family.name,
            accuracy=c.accuracy,
            unit=cost.unit,
            best_us=quick(own) * 1e6,
            median_us=median(own) * 1e6,
            gops=cost.flops / median(own) / 1e9,
            issued=issued / max(cost.flops, 1),
            best_share=share(quick),
            share=share(median),
            gb_s=cost.bytes / median(own) / 1e9,
            torch=median(theirs) / median(own) if theirs else None,
        )


def _times(
    own: Callable[[], float],
    loop: Callable[[], object],
    peer: Callable[[], object] | None,
    seconds: float,
) -> tuple[list[float], list[float], list[float]]:
    """Seconds of the runs of a kernel, of the loop after it, and of the peer (none: empty)."""
    times: tuple[list[float], list[float], list[float]] = ([], [], [])
    own()
    end = perf_counter() + seconds
    while perf_counter() < end or len(times[0]) < 5:
        times[0].append(own())
        for others, run in ((times[1], loop), (times[2], peer)):
            if run is not None:
                begin = perf_counter()
                run()
                others.append(perf_counter() - begin)
    return times


def quick(times: list[float]) -> float:
    """The lower quartile: a time is a difference, so the least of them may be chance."""
    return sorted(times)[len(times) // 4]


def main() -> None:
    """Print one line a kernel: times, operations a second of the mathematical product, share of
    the bare loop, bytes a second."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--target", default="native")
    parser.add_argument("--family", default="", help="only labels that contain this text")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--torch", action="store_true", help="beside PyTorch's linear layers")
    parser.add_argument("--work", type=Path, help="keep compiled kernels here for the next call")
    parser.add_argument("--record", type=Path)
    options = parser.parse_args()
    if options.torch and find_spec("torch") is None:
        parser.error("--torch: PyTorch is not installed; try: pip install torch")
    found: list[Row] = []
    with TemporaryDirectory(prefix="tilewright-") as temporary:
        folder = options.work or Path(temporary)
        for target in targets.parse(options.target):
            print(target.name)
            wanted = (target, options.family, options.seconds, options.torch, folder)
            for row in rows(*wanted):
                found.append(row)
                print(text(row), flush=True)
    if options.record:
        command = shlex.join(["python", "-m", "tilewright.tools.bench_kernels", *sys.argv[1:]])
        record(options.record, found, command=command)


def text(row: Row) -> str:
    """One line."""
    beside = "" if row.torch is None else f"  {row.torch:.2f} x torch"
    return (
        f"  {row.family:16s} {row.accuracy:5g} {row.shape:48s} {row.median_us:10.1f} us"
        f" {row.gops:8.1f} Gop/s x {row.issued:4.2f}, {100 * row.best_share:5.1f} % (best),"
        f" {100 * row.share:5.1f} % of {row.unit:9s} {row.gb_s:6.1f} GB/s{beside}"
    )


if __name__ == "__main__":
    main()

"""Where sparse weights begin to pay: ``python -m tilewright.tools.bench_sparse``.

For every shape and number of rows: the dense kernels of f32 and of 8 bits, these on dot products
(VNNI) and on tiles (AMX), and the kernels of blocks of 16x4, 16x1, 4x4 and 4x1 and of bitmaps at
several shares of weights that are there. In turn, lower quartiles, one thread, weights from beyond
L2. A column says how many times as fast as a dense kernel a sparse one is; below, the share of
weights at which it takes as long as each dense one, between the shares that were measured.
Runs where there are AMX tiles (sapphirerapids).
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

from tilewright.backends import target as targets
from tilewright.backends.cost.model import predict
from tilewright.backends.kernels.apart_matmul import ApartMatmulSpec
from tilewright.backends.kernels.bitmap_matmul import BitmapMatmulSpec
from tilewright.backends.kernels.block_matmul import BlockMatmulSpec
from tilewright.backends.kernels.candidates import Candidate
from tilewright.backends.kernels.f32_matmul import MatmulSpec
from tilewright.backends.kernels.int8_scaled_matmul import ScaledMatmulSpec
from tilewright.backends.kernels.registry import family
from tilewright.backends.kernels.tasks import MatmulTask
from tilewright.backends.llvm.jit import load
from tilewright.backends.profile import profile_for
from tilewright.compiler.formats.sparse import Sparse
from tilewright.tools.bench.launches import Launch, compile_family, launch
from tilewright.tools.bench.record import record

SHAPES = ("384x1024", "1024x384", "1024x4096")
ROWS = (16, 128)
SHARES = (0.5, 0.3, 0.2, 0.1, 0.05)

TILES = targets.TARGETS["sapphirerapids"]
DOTS = targets.Target(
    name="x86-64-v4-vnni",
    inherits="x86-64-v4",
    cpu="x86-64-v4",
    features=("avx512vnni",),
    cpuinfo=("avx512_vnni",),
    vector_bits=512,
    vector_regs=32,
    l1_kib=32,
    l2_kib=2048,
)
"""The same machine without tiles."""

DENSE = ("f32 dense", "s8 dense, dots", "s8 dense, tiles")
BLOCKS = {"s8 16x4": (16, 4), "f32 16x1": (16, 1), "s8 4x4": (4, 4), "f32 4x1": (4, 1)}
"""Columns and k of a block."""
APART = {"s8 16x1": 16, "s8 4x1": 4}
"""Columns of a block of one k in 8 bits."""


@dataclass(frozen=True)
class Job:
    """A kernel to measure; ``share`` of the weights are there."""

    name: str
    share: float
    candidate: Candidate
    target: targets.Target


@dataclass(frozen=True)
class Row:
    """Microseconds of a kernel, and what the cost model says; times as fast as dense ones."""

    m: int
    k: int
    n: int
    kernel: str
    share: float
    megabytes: float
    us: float
    predicted_us: float
    of_f32: float
    of_dots: float
    of_tiles: float


def jobs(k: int, n: int, shares: Sequence[float]) -> list[Job]:
    """Dense ones first, in the order of DENSE."""

    def job(name: str, share: float, owner: str, spec: Any, target: targets.Target = TILES) -> Job:
        return Job(name, share, Candidate(family(owner), spec), target)

    eight = ScaledMatmulSpec(k, n)
    found = [
        job(DENSE[0], 1.0, "f32_matmul", MatmulSpec(k, n)),
        job(DENSE[1], 1.0, "int8_scaled_matmul", eight, DOTS),
        job(DENSE[2], 1.0, "int8_scaled_matmul", eight),
    ]
    for share in shares:
        for name, (wide, deep) in BLOCKS.items():
            strips = -(-n // wide)
            blocks = -(-round(share * strips * -(-k // deep)) // strips) * strips
            made = Sparse(8) if deep == 4 else None
            spec = BlockMatmulSpec(k, n, blocks, made, wide=wide)
            found.append(job(name, share, "block_matmul", spec))
        for name, wide in APART.items():
            apart = ApartMatmulSpec(k, n, -(-round(share * k) // 4) * -(-n // wide), wide)
            found.append(job(name, share, "apart_matmul", apart))
        lines = -(-round(share * 4 * k * n) // 64) + 2 * -(-n // 32)
        found.append(job("f32 bitmap", share, "bitmap_matmul", BitmapMatmulSpec(k, n, lines)))
    return found


def compiled(every: Sequence[Job], at: Path) -> list[Any]:
    """The kernels of jobs."""
    paths = [
        compile_family(j.candidate.family.name, [j.candidate.spec], j.target, at) for j in every
    ]
    return [
        load(path.read_bytes(), j.target).kernel("kernel0")
        for j, path in zip(every, paths, strict=True)
    ]


def measure(
    every: Sequence[Job], kernels: Sequence[Any], dims: tuple[int, int, int], seconds: float
) -> list[Row]:
    """The rows of one shape, M, K and N; ``seconds`` for all of them."""
    m, k, n = dims
    task = MatmulTask(k, n)
    runs = [launch(j.candidate, task, dims, x) for j, x in zip(every, kernels, strict=True)]
    times = _times(runs, seconds)
    profile = profile_for(TILES)
    f32, dots, tiles = times[:3]
    return [
        Row(
            m=m,
            k=k,
            n=n,
            kernel=job.name,
            share=job.share,
            megabytes=job.candidate.layout.bytes / 1e6 if job.candidate.layout else 0.0,
            us=time * 1e6,
            predicted_us=1e6
            * predict(job.candidate.family, job.candidate.spec, dims, job.target, profile),
            of_f32=f32 / time,
            of_dots=dots / time,
            of_tiles=tiles / time,
        )
        for job, time in zip(every, times, strict=True)
    ]


def _times(runs: list[Launch], seconds: float) -> list[float]:
    """Lower quartiles."""
    found: list[list[float]] = [[] for _ in runs]
    end = perf_counter() + seconds
    while perf_counter() < end or len(found[0]) < 5:
        for run, times in zip(runs, found, strict=True):
            times.append(run.run())
    return [sorted(times)[len(times) // 4] for times in found]


def even(points: Sequence[tuple[float, float]]) -> str:
    """The share at which a speed of 1 is passed, of (share, speed): between two of them, or what
    they say of it."""
    rising = sorted(points, reverse=True)
    if rising[0][1] >= 1:
        return f"above {rising[0][0]:.2f}"
    for (share, speed), (less, faster) in pairwise(rising):
        if faster >= 1:
            return f"{share + (less - share) * (1 - speed) / (faster - speed):.2f}"
    return f"below {rising[-1][0]:.2f}"


def text(found: list[Row]) -> str:
    """Lines of one shape."""
    first = found[0]
    out = [f"{first.m}x{first.k}x{first.n}"]
    out += [
        f"  {r.kernel:16s} {r.share:5.2f} {r.megabytes:7.2f} MB {r.us:9.1f} us "
        f"({r.predicted_us:9.1f})  times f32 {r.of_f32:5.2f}, dots {r.of_dots:5.2f}, "
        f"tiles {r.of_tiles:5.2f}"
        for r in found
    ]
    for name in dict.fromkeys(r.kernel for r in found[len(DENSE) :]):
        own = [r for r in found if r.kernel == name]
        parts = [
            f"{what} {even([(r.share, getattr(r, field)) for r in own])}"
            for what, field in (("f32", "of_f32"), ("dots", "of_dots"), ("tiles", "of_tiles"))
        ]
        out.append(f"  {name} is even with {', '.join(parts)}")
    return "\n".join(out)


def main() -> None:
    """Print a table of each shape and number of rows, and record all rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--shapes", default=",".join(SHAPES), help="KxN,KxN,...")
    parser.add_argument("--rows", default=",".join(map(str, ROWS)))
    parser.add_argument("--shares", default=",".join(map(str, SHARES)))
    parser.add_argument("--seconds", type=float, default=3.0, help="for each shape and rows")
    parser.add_argument("--work", type=Path, help="keep compiled kernels here for the next call")
    parser.add_argument("--record", type=Path)
    options = parser.parse_args()
    if not targets.runs_here(TILES):
        parser.error(f"this machine has no {TILES.name}")
    shares = [float(share) for share in options.shares.split(",")]
    every: list[Row] = []
    with TemporaryDirectory(prefix="tilewright-") as temporary:
        folder = options.work or Path(temporary)
        for shape in options.shapes.split(","):
            k, n = map(int, shape.split("x"))
            wanted = jobs(k, n, shares)
            kernels = compiled(wanted, folder)
            for m in map(int, options.rows.split(",")):
                found = measure(wanted, kernels, (m, k, n), options.seconds)
                every += found
                print(text(found), flush=True)
    if options.record:
        command = shlex.join(["python", "-m", "tilewright.tools.bench_sparse", *sys.argv[1:]])
        record(options.record, every, command=command)


if __name__ == "__main__":
    main()

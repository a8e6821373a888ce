"""Kernels against the machine's bare FMA rate: ``python -m tilewright.tools.bench_kernels``.

One thread; kernels and the FMA loop are timed in turn, so that frequency and neighbours hit both;
the best of many runs. Never part of a test: shared machines are too noisy for that.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from llvmlite import ir

from tilewright.backends import target as targets
from tilewright.backends.kernels.family import Case, evaluate
from tilewright.backends.kernels.registry import family
from tilewright.backends.llvm.builder import KERNEL_TYPE, Code
from tilewright.backends.llvm.gemm import ok
from tilewright.backends.llvm.jit import call, compile_module
from tilewright.tools import bench_kernel_shapes


@dataclass
class Timed:
    """Something to time: its label, operations in one run, bytes in one run, and the run."""

    label: str
    flops: int
    bytes: int
    run: Callable[[], object]


def emit_fma_loop(module: ir.Module, target: targets.Target, name: str) -> int:
    """A kernel of nothing but FMAs in registers; returns its operations per unit."""
    fn = ir.Function(module, KERNEL_TYPE, name)
    code = Code(ir.IRBuilder(fn.append_basic_block("entry")), target)
    lanes = target.lanes_f32
    count = 24 if target.vector_regs >= 32 else 12
    x = code.splat(1.0000001, lanes)
    start = [code.splat(float(i), lanes) for i in range(count)]
    with code.loop(fn.args[2], fn.args[3], 1, start) as loop:
        for _ in range(4):
            loop.next = [code.fma(v, x, x) for v in loop.next]
    total = loop.carried[0]
    for value in loop.carried[1:]:
        total = code.b.fadd(total, value)
    code.store(code.b.extract_element(total, ir.Constant(ir.IntType(32), 0)), fn.args[4])
    ok(code)
    return count * 4 * lanes * 2


def prepare(target: targets.Target, cases: list[tuple[str, Case]]) -> list[Timed]:
    """Compile everything for ``target``; the FMA loop comes first."""
    module = ir.Module("bench")
    peak = emit_fma_loop(module, target, "fma")
    for i, (name, case) in enumerate(cases):
        family(name).emit(module, case.spec, target, f"kernel{i}")
    library = compile_module(module, target)
    out = np.zeros(16, np.float32)
    turns = 20000
    fma = library.kernel("fma")
    timed = [
        Timed("register FMA loop", peak * turns, 0, lambda: fma(0, 0, 0, turns, out.ctypes.data))
    ]
    for i, (name, case) in enumerate(cases):
        kernel = library.kernel(f"kernel{i}")
        owner = family(name)
        scratch = aligned(evaluate(owner.scratch_bytes(case.spec), case.dims))
        arrays = [aligned_copy(a) for a in (*case.args, *case.results)]
        ranges = [(0, evaluate(owner.units(case.spec), case.dims))]

        def run(k=kernel, a=arrays, d=case.dims, r=ranges, s=scratch) -> None:  # type: ignore[no-untyped-def]
            call(k, a, d, r, s)

        cost = owner.cost(case.spec, case.dims)
        timed.append(Timed(f"{name} {case.label}", cost.flops, cost.bytes, run))
    return timed


def aligned(size: int) -> np.ndarray:
    """``size`` zero bytes at a 64-byte boundary."""
    raw = np.zeros(size + 64, np.uint8)
    skip = -raw.ctypes.data % 64
    return raw[skip : skip + size]


def aligned_copy(array: np.ndarray) -> np.ndarray:
    """``array`` at a 64-byte boundary."""
    placed = aligned(array.nbytes).view(array.dtype).reshape(array.shape)
    placed[...] = array
    return placed


def measure(timed: list[Timed], rounds: int, budget: float) -> list[tuple[float, float]]:
    """Least seconds of one run of each, and of the FMA loop (the first) right after it.

    The loop alone clocks higher than it does next to code that also loads (212 against 180
    GFLOP/s on a Sapphire Rapids), so each kernel is compared with the loop that followed it.
    """
    fma = timed[0]
    best = []
    for item in timed:
        item.run()
        once = _seconds(item)
        count = max(3, int(budget / len(timed) / rounds / (once + _seconds(fma))))
        pairs = [(_seconds(item), _seconds(fma)) for _ in range(count * rounds)]
        best.append((min(t for t, _ in pairs), min(t for _, t in pairs)))
    return best


def _seconds(item: Timed) -> float:
    begin = time.perf_counter()
    item.run()
    return time.perf_counter() - begin


def main() -> None:
    """Print one line a shape: time, GFLOP/s, percent of the FMA loop, GB/s."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", default="native")
    parser.add_argument("--family", default="", help="only labels that contain this text")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=8.0)
    options = parser.parse_args()
    for target in targets.parse(options.target):
        cases = [c for c in bench_kernel_shapes.cases() if options.family in f"{c[0]} {c[1].label}"]
        timed = prepare(target, cases)
        seconds = measure(timed, options.rounds, options.seconds)
        print(target.name)
        for item, (t, after) in zip(timed, seconds, strict=True):
            rate, peak = item.flops / t, timed[0].flops / after
            print(
                f"  {item.label:44s} {t * 1e6:10.1f} us {rate / 1e9:8.1f} GFLOP/s"
                f" {100 * rate / peak:5.1f} % {item.bytes / t / 1e9:7.1f} GB/s"
            )


if __name__ == "__main__":
    main()

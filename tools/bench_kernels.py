"""Kernels against the machine's bare rate: ``python -m tilewright.tools.bench_kernels``.

The rate is that of a loop of nothing but FMAs in registers or, for bf16 kernels on a target with
AMX, of 2 x 2 tiles over operands that stay in L2. One thread; kernels and their loop are timed in
turn, so that frequency and neighbours hit both; the best of many runs, and medians, since AMX
clocks down within milliseconds. Never part of a test: shared machines are too noisy for that.
"""

from __future__ import annotations

import argparse
import ctypes
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from llvmlite import ir

from tilewright.backends import target as targets
from tilewright.backends.kernels.family import Case, evaluate
from tilewright.backends.kernels.registry import family
from tilewright.backends.llvm import amx
from tilewright.backends.llvm.builder import I8, KERNEL_TYPE, Code
from tilewright.backends.llvm.gemm import ok
from tilewright.backends.llvm.jit import compile_module
from tilewright.tools import bench_kernel_shapes

AMX_SHAPE = (128, 384, 384)
"""M, K, N of the bare AMX loop: 400 KiB of packed operands."""


@dataclass
class Timed:
    """Something to time: its label, operations in one run, bytes in one run, the run, and the
    bare loop to compare with (None: this is one)."""

    label: str
    flops: int
    bytes: int
    run: Callable[[], object]
    loop: Timed | None = None


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


def emit_amx_loop(module: ir.Module, target: targets.Target, name: str) -> None:
    """2 x 2 tiles over scratch: packed A and B of AMX_SHAPE, then one block of C. A unit is the
    whole product."""
    fn = ir.Function(module, KERNEL_TYPE, name)
    code = Code(ir.IRBuilder(fn.append_basic_block("entry")), target)
    m, k, n = AMX_SHAPE
    row_bytes, panel_bytes = 32 * k, 64 * k
    b = code.at(fn.args[4], 2 * m * k, I8)
    c = code.at(b, 2 * k * n, I8)
    amx.configure(code)
    with (
        code.loop(fn.args[2], fn.args[3]),
        code.loop(0, n // 32) as panel,
        code.loop(0, m // 32) as rows,
    ):
        for tile in range(4):
            amx.zero(code, tile)
        with code.loop(0, k // 32) as step:
            at = code.add(code.mul(rows.index, 2 * row_bytes), code.mul(step.index, 1024))
            left = code.at(fn.args[4], at, I8)
            at = code.add(code.mul(panel.index, panel_bytes), code.mul(step.index, 2048))
            right = code.at(b, at, I8)
            for i in range(2):
                amx.load(code, 4 + i, code.at(left, i * row_bytes, I8), 64)
                amx.load(code, 6 + i, code.at(right, i * 64, I8), 128)
            for tile in range(4):
                amx.multiply_bf16(code, tile, 4 + tile // 2, 6 + tile % 2)
        for tile in range(4):
            amx.store(code, tile, code.at(c, tile * 1024, I8), 64)
    amx.release(code)
    ok(code)


def prepare(target: targets.Target, cases: list[tuple[str, Case]]) -> list[Timed]:
    """Compile everything for ``target``; the bare loops come first."""
    module = ir.Module("bench")
    peak = emit_fma_loop(module, target, "fma")
    tiles = amx.has_bf16(target)
    if tiles:
        emit_amx_loop(module, target, "amx")
    cases = [(name, case) for name, case in cases if supports(name, target)]
    for i, (name, case) in enumerate(cases):
        family(name).emit(module, case.spec, target, f"kernel{i}")
    library = compile_module(module, target)
    out = aligned(64)
    turns = 20000
    fma = library.kernel("fma")
    timed = [
        Timed("register FMA loop", peak * turns, 0, lambda: fma(0, 0, 0, turns, out.ctypes.data))
    ]
    loops = {False: timed[0], True: timed[0]}
    if tiles:
        m, k, n = AMX_SHAPE
        # Not zeros: the clock depends on the bits that toggle.
        values = np.random.default_rng(0).standard_normal(k * (m + n)).astype(np.float32)
        operands = aligned(2 * k * (m + n) + 4096)
        operands[: 2 * k * (m + n)] = (
            (values.view(np.uint32) >> 16).astype(np.uint16).view(np.uint8)
        )
        bare = library.kernel("amx")
        loops[True] = Timed(
            "AMX tile loop", 2 * m * k * n, 0, lambda: bare(0, 0, 0, 1, operands.ctypes.data)
        )
        timed.append(loops[True])
    for i, (name, case) in enumerate(cases):
        kernel = library.kernel(f"kernel{i}")
        owner = family(name)
        scratch = aligned(evaluate(owner.scratch_bytes(case.spec), case.dims))
        arrays = [aligned_copy(a) for a in (*case.args, *case.results)]
        pointers = (ctypes.c_void_p * len(arrays))(*(a.ctypes.data for a in arrays))
        dims = (ctypes.c_int64 * len(case.dims))(*case.dims)
        units = evaluate(owner.units(case.spec), case.dims)

        def run(k=kernel, p=pointers, d=dims, u=units, s=scratch, keep=arrays) -> None:  # type: ignore[no-untyped-def]
            k(p, d, 0, u, s.ctypes.data)

        cost = owner.cost(case.spec, case.dims, target)
        loop = loops[name.startswith("bf16")]
        timed.append(Timed(f"{name} {case.label}", cost.flops, cost.bytes, run, loop))
    return timed


def supports(name: str, target: targets.Target) -> bool:
    """Whether family ``name`` has code for ``target``."""
    predicate = family(name).supports
    return predicate is None or predicate(target)


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


def measure(timed: list[Timed], rounds: int, budget: float) -> list[np.ndarray]:
    """Seconds of each run of each, and of its loop right after it: [runs, 2] a ``timed``.

    The FMA loop alone clocks higher than it does next to code that also loads (212 against 180
    GFLOP/s on a Sapphire Rapids), so each kernel is compared with the loop that followed it.
    """
    measured = []
    for item in timed:
        loop = item.loop or item
        item.run()
        once = _seconds(item)
        count = max(3, int(budget / len(timed) / rounds / (once + _seconds(loop))))
        pairs = [(_seconds(item), _seconds(loop)) for _ in range(count * rounds)]
        measured.append(np.array(pairs))
    return measured


def _seconds(item: Timed) -> float:
    begin = time.perf_counter()
    item.run()
    return time.perf_counter() - begin


def main() -> None:
    """Print one line a shape: time, GFLOP/s and percent of the loop, of the best runs and of the
    medians, GB/s."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", default="native")
    parser.add_argument("--family", default="", help="only labels that contain this text")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=8.0)
    options = parser.parse_args()
    for target in targets.parse(options.target):
        cases = [c for c in bench_kernel_shapes.cases() if options.family in f"{c[0]} {c[1].label}"]
        timed = prepare(target, cases)
        print(target.name)
        for item, runs in zip(timed, measure(timed, options.rounds, options.seconds), strict=True):
            loop = item.loop or item
            text = f"  {item.label:44s} {runs[:, 0].min() * 1e6:10.1f} us"
            for best, after in (runs.min(0), np.median(runs, 0)):
                rate, peak = item.flops / best, loop.flops / after
                text += f" {rate / 1e9:8.1f} GFLOP/s {100 * rate / peak:5.1f} %"
            print(f"{text} {item.bytes / runs[:, 0].min() / 1e9:7.1f} GB/s")


if __name__ == "__main__":
    main()

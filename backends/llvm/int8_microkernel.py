"""Micro-kernels of 8-bit products: few rows by one or several panels of 32 columns.

Packed B: [panel] of [K step of 64][16 quads of k][32 columns][4] bytes, then 32 i32 (see
int8_gemm). Register block: rows x vectors accumulators, one vector of B (two as s16) and one
broadcast of A (two) at a time. Sums are exact in any order, so short blocks keep several
accumulators an element: eight chains hide the latency of 4 to 5 cycles of two pipes.
"""

from __future__ import annotations

from llvmlite import ir

from tilewright.backends.llvm import int8
from tilewright.backends.llvm.amx import ROWS
from tilewright.backends.llvm.bf16_microkernel import internal
from tilewright.backends.llvm.builder import I8, I32, I64, PTR, VOID, Code, zeros
from tilewright.backends.llvm.int8 import QUADS, STEP, Dots
from tilewright.backends.llvm.microkernel import PANEL

STEP_BYTES = STEP * PANEL
"""One step of a packed panel."""

CHAINS = 8

AHEAD = 4 * STEP_BYTES
"""How far before its use B is asked for: 8 KiB are in flight a panel."""

_QUAD_BYTES = 4 * PANEL
_KIND = ir.FunctionType(VOID, [PTR, PTR, I64, I64, PTR, PTR, I64, I64])


def most_rows(d: Dots) -> int:
    """Rows of the widest block: accumulators of 2 vectors take half of the registers."""
    return d.registers // 4


def wide_panels(d: Dots, rows: int) -> int:
    """Panels at a time for ``rows`` rows: few rows stream B along several lines."""
    vectors = PANEL // d.lanes
    return max(1, min(4, d.registers * 3 // 4 // (rows * vectors)))


def dot_kernel(code: Code, d: Dots, rows: int, panels: int) -> ir.Function:
    """``void (a, b, steps, bytes of a panel, start, c, ldc, elements from panel to panel of c)``.

    ``a``: row 0 of a block; ``start``: i32 [panels][32] that the sums begin with.
    """
    name = f"tilewright_int8_dots_{rows}x{panels * PANEL}"
    found = code.module.globals.get(name)
    if found is not None:
        return found
    fn, code = internal(code, _KIND, name)
    a, b, steps, panel_bytes, start, c, ldc, between = fn.args
    vectors = PANEL // d.lanes
    # Panels wider than the registers allow are done a slice of columns at a time.
    slice_ = min(vectors, 2 if rows * vectors * 4 > d.registers * 3 else vectors)
    with code.loop(0, vectors // slice_) as part:
        column = code.mul(part.index, slice_ * d.lanes)
        columns = [(p, v * d.lanes) for p in range(panels) for v in range(slice_)]
        chains = max(1, min(4, CHAINS // (rows * len(columns))))
        begin = [
            code.vload(code.at(start, code.add(p * PANEL + v, column), I32), d.lanes, element=I32)
            for _ in range(rows)
            for p, v in columns
        ]
        rest = [zeros(begin[0].type)] * (len(begin) * (chains - 1))
        with code.loop(0, steps, 1, [*begin, *rest]) as step:
            at_a = code.at(a, code.mul(step.index, ROWS * d.row_bytes), I8)
            at_b = code.at(b, code.mul(step.index, STEP_BYTES), I8)
            at_b = code.at(at_b, code.mul(column, 4), I8)
            with code.loop(0, QUADS, chains, step.carried) as quad:
                totals = list(quad.carried)
                for chain in range(chains):
                    here = code.add(quad.index, chain)
                    line = code.at(at_b, code.mul(here, _QUAD_BYTES), I8)
                    lefts = [
                        int8.load_a(code, d, code.at(at_a, r * d.row_bytes, I8), here)
                        for r in range(rows)
                    ]
                    for i, (p, v) in enumerate(columns):
                        at = code.at(code.at(line, code.mul(panel_bytes, p), I8), 4 * v, I8)
                        if rows <= 2 and v % 16 == 0:
                            code.prefetch(code.at(at, AHEAD, I8))
                        right = int8.load_b(code, d, at)
                        for r in range(rows):
                            t = (chain * rows + r) * len(columns) + i
                            totals[t] = int8.accumulate(code, d, totals[t], lefts[r], right)
                quad.next = totals
            step.next = quad.carried
        for r in range(rows):
            for i, (p, v) in enumerate(columns):
                total = step.carried[r * len(columns) + i]
                for chain in range(1, chains):
                    total = code.b.add(total, step.carried[(chain * rows + r) * len(columns) + i])
                row = code.at(code.at(c, code.mul(between, p), I32), code.mul(ldc, r), I32)
                code.vstore(total, code.at(row, code.add(column, v), I32))
    code.b.ret_void()
    return fn

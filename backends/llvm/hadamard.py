"""Hadamard rotation of a row in registers: the fast transform, log2(block) sums an element.

Bit for bit that of `formats.caches.rotate`: steps in the same order, each sum rounded once.
"""

from __future__ import annotations

from collections.abc import Sequence

from llvmlite import ir

from tilewright.backends.llvm.builder import I32, Code


def rotate(code: Code, row: Sequence[ir.Value], block: int) -> list[ir.Value]:
    """``row``, vectors of its elements in order, with every ``block`` elements times the symmetric
    orthogonal Hadamard matrix. block: a power of two; blocks smaller than a vector may end the row
    in the middle of one."""
    if block == 1:
        return list(row)
    b, lanes = code.b, code.target.lanes_f32
    now = list(row)
    apart = 1
    while apart < min(block, lanes):
        now = [_within(code, x, apart) for x in now]
        apart *= 2
    while apart < block:
        step = apart // lanes
        out = list(now)
        for i in range(len(now)):
            if not i & step:
                out[i] = b.fadd(now[i], now[i + step])
                out[i + step] = b.fsub(now[i], now[i + step])
        now = out
        apart *= 2
    factor = code.splat(block**-0.5, lanes)
    return [b.fmul(x, factor) for x in now]


def _within(code: Code, x: ir.Value, apart: int) -> ir.Value:
    """Lanes without the bit ``apart``: their sum with the lane that has it; with it: the other less
    their own."""
    b, lanes = code.b, x.type.count
    picks = ir.Constant(ir.VectorType(I32, lanes), [i ^ apart for i in range(lanes)])
    other = b.shuffle_vector(x, x, picks)
    signs = [-1.0 if i & apart else 1.0 for i in range(lanes)]
    return b.fadd(other, b.fmul(x, ir.Constant(x.type, signs)))

"""f32 activations quantized to 8 bits while they are put into the block of int8_block."""

from __future__ import annotations

from collections.abc import Callable

from llvmlite import ir

from tilewright.backends.llvm import int8
from tilewright.backends.llvm.amx import ROWS
from tilewright.backends.llvm.builder import F32, I1, I8, I32, Code, Int, zeros
from tilewright.backends.llvm.int8 import STEP, Dots
from tilewright.backends.llvm.int8_block import keep_in_place, line, steps

_BEYOND = 1024.0
"""Quotients from here on saturate with any zero point."""

_NORMAL = 60
"""Scales between two to the power of minus and plus this are divided by in another way."""

Quantize = Callable[[ir.Value], ir.Value]
"""A vector of f32 -> integers as f32, within the limits of the type."""


def emit_quantized_tensor(
    code: Code,
    d: Dots,
    a: ir.Value,
    lda: Int,
    rows: Int,
    k: int,
    scale: ir.Value,
    zero: ir.Value,
    out: ir.Value,
) -> None:
    """u8 = saturate(round(x / scale) + zero), ``scale`` f32 and ``zero`` i8 values; NaN gives 0.

    The quotient is rounded correctly, without a division of vectors. With r = 1 / scale, x r
    is within 2 units of the last place, a step of q += (x - q scale) r makes it faithful and a
    second one right (P. Markstein, Computation of elementary functions on the IBM RISC System/6000
    processor, 1990), given that no step leaves the range of normal numbers.
    """
    lanes = code.target.lanes_f32
    divisor = code.splat(scale, lanes)
    point = code.splat(code.b.uitofp(zero, F32), lanes)
    least, most = code.splat(0.0, lanes), code.splat(255.0, lanes)

    def finish(quotient: ir.Value) -> ir.Value:
        value = code.b.fadd(code.intrinsic("roundeven", quotient), point)
        value = code.b.select(code.b.fcmp_ordered(">", value, least), value, least)
        return code.b.select(code.b.fcmp_ordered("<", value, most), value, most)

    def divide(x: ir.Value) -> ir.Value:
        return finish(code.b.fdiv(x, divisor))

    inverse = code.splat(code.b.fdiv(ir.Constant(F32, 1.0), scale), lanes)
    minus = code.b.fneg(divisor)
    limit = code.b.fmul(divisor, code.splat(_BEYOND, lanes))
    opposite = code.b.fneg(limit)

    def multiply(x: ir.Value) -> ir.Value:
        # What saturates in any case stays finite; NaN becomes the least, which gives 0.
        x = code.b.select(code.b.fcmp_ordered(">", x, opposite), x, opposite)
        x = code.b.select(code.b.fcmp_ordered("<", x, limit), x, limit)
        quotient = code.b.fmul(x, inverse)
        for _ in range(2):
            quotient = code.fma(code.fma(minus, quotient, x), inverse, quotient)
        return finish(quotient)

    low, high = (ir.Constant(F32, 2.0**e) for e in (-_NORMAL, _NORMAL))
    usual = code.b.and_(code.b.fcmp_ordered(">", scale, low), code.b.fcmp_ordered("<", scale, high))
    if not code.target.fma:
        usual = ir.Constant(I1, 0)
    with code.either(usual) as arms:
        for arm, quantize in zip(arms, (multiply, divide), strict=True):
            with arm, code.loop(0, rows) as row:
                source = code.at(a, code.mul(row.index, lda))
                _line(code, d, source, k, line(code, d, out, row.index, k), quantize)


def _line(
    code: Code,
    d: Dots,
    source: ir.Value,
    k: int,
    out: ir.Value,
    quantize: Quantize,
) -> None:
    """One row of ``k`` f32 into its line of every step."""
    lanes = code.target.lanes_f32

    def step(index: Int, count: int) -> None:
        target = code.at(out, code.mul(index, ROWS * d.row_bytes), I8)
        room = code.at(target, d.row_bytes - STEP, I8)
        taken = code.at(source, code.mul(index, STEP))
        for at in range(0, STEP, lanes):
            narrow = zeros(ir.VectorType(I8, lanes))
            if at < count:
                mask = code.first_lanes(count - at, lanes) if count < at + lanes else None
                value = quantize(code.vload(code.at(taken, at), lanes, mask))
                wide = code.b.fptosi(value, ir.VectorType(I32, lanes))
                narrow = code.b.trunc(wide, ir.VectorType(I8, lanes))
                if mask is not None:
                    narrow = code.b.select(mask, narrow, zeros(narrow.type))
            if d.shift(False):
                narrow = int8.flip(code, narrow)
            code.vstore(narrow, code.at(room, at, I8))
        if d.held == "s16":
            keep_in_place(code, d, room, False, target)

    with code.loop(0, k // STEP) as whole:
        step(whole.index, STEP)
    if k % STEP:
        step(steps(k) - 1, k % STEP)

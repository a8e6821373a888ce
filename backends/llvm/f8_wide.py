"""Panels of 8-bit floats brought to panels of bf16 (bf16_gemm) or f32 (gemm) in scratch, exactly.

e5m2 is the upper byte of an f16. e4m3, moved to the exponent and mantissa of an f16, is one 2^8 too
small; the CPU's conversion then knows subnormal numbers without a microcode assist.
"""

from __future__ import annotations

from llvmlite import ir

from tilewright.backends.llvm import bf16
from tilewright.backends.llvm.bf16_block import STEP, steps
from tilewright.backends.llvm.bf16_microkernel import PLANE_BYTES
from tilewright.backends.llvm.builder import I8, I32, Code, Int
from tilewright.backends.llvm.microkernel import PANEL

_I16 = ir.IntType(16)
_HALF = ir.HalfType()


def emit_wide(code: Code, kind: str, k: int, panel: ir.Value, out: ir.Value, short: bool) -> None:
    """One panel: bf16 [steps][16 pairs][32][2], or f32 [K in whole steps][32]."""
    lanes = code.target.lanes_f32
    with code.loop(0, steps(k)) as step:
        codes = code.at(panel, code.mul(step.index, STEP * PANEL), I8)
        target = code.at(out, code.mul(step.index, PLANE_BYTES * (1 if short else 2)), I8)
        with code.loop(0, STEP // 2) as pair:
            line = code.at(codes, code.mul(pair.index, 2 * PANEL), I8)
            for v in range(PANEL // lanes):
                both = _numbers(code, kind, code.at(line, 2 * v * lanes, I8), 2 * lanes)
                if short:
                    _store_pairs(code, both, target, pair.index, v)
                else:
                    _store_rows(code, both, target, pair.index, v)


def _numbers(code: Code, kind: str, at: ir.Value, count: int) -> ir.Value:
    """``count`` codes as f32."""
    wide = ir.VectorType(_I16, count)
    raw = code.b.zext(code.vload(at, count, element=I8), wide)

    def all_of(number: int) -> ir.Constant:
        return ir.Constant(wide, [number] * count)

    bits = code.b.shl(raw, all_of(8))
    if kind == "e4m3":
        rest = code.b.shl(code.b.and_(raw, all_of(0x7F)), all_of(7))
        bits = code.b.or_(code.b.and_(bits, all_of(-0x8000)), rest)
    halves = code.b.bitcast(bits, ir.VectorType(_HALF, count))
    values = code.b.fpext(halves, code.vector(count))
    if kind == "e4m3":
        values = code.b.fmul(values, code.splat(256.0, count))
    return values


def _store_pairs(code: Code, both: ir.Value, out: ir.Value, pair: Int, v: int) -> None:
    """Columns with their two k beside each other, as bf16."""
    lanes = code.target.lanes_f32
    low, high = (_part(code, both, range(i * lanes, (i + 1) * lanes)) for i in range(2))
    at = code.add(code.mul(pair, 4 * PANEL), 4 * v * lanes)
    code.vstore(bf16.pack(code, low, high), code.at(out, at, I8))


def _store_rows(code: Code, both: ir.Value, out: ir.Value, pair: Int, v: int) -> None:
    """The two k in rows of their own, as f32."""
    lanes = code.target.lanes_f32
    for i in range(2):
        row = code.add(code.mul(code.add(code.mul(pair, 2), i), PANEL), v * lanes)
        code.vstore(_part(code, both, range(i, 2 * lanes, 2)), code.at(out, row))


def _part(code: Code, values: ir.Value, picks: range) -> ir.Value:
    order = ir.Constant(ir.VectorType(I32, len(picks)), list(picks))
    return code.b.shuffle_vector(values, values, order)

"""Packed integer codes brought to panels of bf16 (bf16_gemm) or f32 (gemm) in scratch.

A code is put into the upper mantissa bits of the number 2^bits, which makes 2^bits + q, and one FMA
makes s (q - z) of it, exactly as all operands are short: no conversion is needed.
"""

from __future__ import annotations

from collections.abc import Sequence

from llvmlite import ir

from tilewright.backends.llvm import bf16
from tilewright.backends.llvm.bf16_block import STEP, steps
from tilewright.backends.llvm.bf16_microkernel import PLANE_BYTES
from tilewright.backends.llvm.builder import I8, I32, Code, Int
from tilewright.backends.llvm.grouped_codes import (
    LINE_BYTES,
    PIECE,
    Field,
    Panel,
    fields,
    plane_lines,
    scales,
)
from tilewright.backends.llvm.grouped_codes import zeros as zero_points
from tilewright.backends.llvm.microkernel import PANEL

assert STEP == PIECE, "a piece is a step of bf16 panels"
AHEAD = 1536
"""Bytes that codes are asked for before their use, also those of the next panel."""

_MANTISSA = 23
_BIAS = 127


def emit_wide(
    code: Code, panel: Panel, matrix: ir.Value, index: Int, out: ir.Value, short: bool
) -> None:
    """One panel: bf16 [steps][16 pairs][32][2], or f32 [K in whole steps][32]."""
    lanes = code.target.lanes_f32
    b = code.at(matrix, code.mul(index, panel.bytes), I8)
    vectors = range(PANEL // lanes)
    with code.loop(0, panel.groups) as group:
        base = code.at(b, code.mul(group.index, panel.group_bytes), I8)
        affine = []
        for v in vectors:
            end = code.at(base, panel.code_bytes + 2 * v * lanes, I8)
            scale = scales(code, panel, end, lanes)
            at_zeros = None
            if not panel.symmetric:
                table = code.at(b, panel.zeros_at + v * lanes, I8)
                at_zeros = code.at(table, code.mul(group.index, PANEL), I8)
            zero = zero_points(code, panel, at_zeros, lanes)
            zero = code.b.fadd(zero, code.splat(float(2**panel.bits), lanes))
            affine.append((scale, code.b.fneg(code.b.fmul(scale, zero))))
        begin = code.mul(group.index, panel.pieces)
        end_of_k = code.min(panel.pieces, code.sub(steps(panel.k), begin))
        with code.loop(0, end_of_k) as piece:
            codes = code.at(base, code.mul(piece.index, panel.piece_bytes), I8)
            number = code.add(begin, piece.index)
            beside = [plane_lines(code, plane, matrix, index, number) for plane in panel.planes]
            target = code.at(out, code.mul(number, PLANE_BYTES * (1 if short else 2)), I8)
            for v in vectors:
                _piece(code, panel, (codes, *beside), target, v, affine[v], short)


def _piece(
    code: Code,
    panel: Panel,
    codes: Sequence[ir.Value],
    out: ir.Value,
    v: int,
    affine: tuple[ir.Value, ir.Value],
    short: bool,
) -> None:
    lanes = code.target.lanes_f32

    def line(plane: int, i: int) -> ir.Value:
        at = code.at(codes[plane], i * LINE_BYTES + 4 * v * lanes, I8)
        if 4 * v * lanes % 64 == 0:
            code.prefetch(code.at(at, AHEAD, I8))
        return code.vload(at, lanes, element=I32)

    for quad, field in enumerate(fields(code, panel, line)):
        values = [_value(code, panel.bits, field, i, affine) for i in range(4)]
        if not short:
            for i, value in enumerate(values):
                code.vstore(value, code.at(out, (4 * quad + i) * PANEL + v * lanes))
            continue
        for pair in range(2):
            both = bf16.pack(code, values[2 * pair], values[2 * pair + 1])
            kind = ir.VectorType(ir.IntType(16), 2 * lanes)
            picks = [x for i in range(lanes) for x in (i, lanes + i)]
            both = code.b.bitcast(both, kind)
            order = ir.Constant(ir.VectorType(I32, 2 * lanes), picks)
            mixed = code.b.shuffle_vector(both, both, order)
            at = (2 * quad + pair) * 4 * PANEL + 4 * v * lanes
            code.vstore(mixed, code.at(out, at, I8))


def _value(
    code: Code, bits: int, field: Field, byte: int, affine: tuple[ir.Value, ir.Value]
) -> ir.Value:
    """f32 weights of one of the four k of a quad."""
    kind = field.lanes.type
    by = _MANTISSA - bits - 8 * byte - field.shift
    count = ir.Constant(kind, [abs(by)] * kind.count)
    moved = field.lanes
    if by:
        moved = code.b.shl(moved, count) if by > 0 else code.b.lshr(moved, count)
    kept = code.b.and_(moved, _all(kind, 2**bits - 1 << _MANTISSA - bits))
    number = code.b.or_(kept, _all(kind, _BIAS + bits << _MANTISSA))
    value = code.b.bitcast(number, code.vector(kind.count))
    return code.fma(value, *affine)


def _all(kind: ir.VectorType, word: int) -> ir.Constant:
    return ir.Constant(kind, [word] * kind.count)

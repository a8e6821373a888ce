"""Rows of an f32 activation as a block of bf16 tiles in scratch.

[row tile of 16][K step of 32][plane][16 rows][32 bf16]: an AMX tile is one contiguous KiB, and a
row of a step is one cache line.
"""

from __future__ import annotations

from llvmlite import ir

from tilewright.backends.llvm import bf16
from tilewright.backends.llvm.amx import ROW_BYTES, ROWS, TILE_BYTES
from tilewright.backends.llvm.builder import I8, Code, Int

STEP = 32
"""Columns of A (rows of B) in one tile."""


def steps(k: int) -> int:
    """Tiles along K."""
    return -(-k // STEP)


def row_tile_bytes(k: int, planes: int) -> int:
    """Bytes of one row of tiles: 16 rows of A."""
    return steps(k) * planes * TILE_BYTES


def emit_block(
    code: Code, a: ir.Value, lda: Int, rows: Int, k: int, planes: int, out: ir.Value
) -> None:
    """Convert ``rows`` rows of ``k`` f32, ``lda`` apart; K is filled up with zeros.

    Rows beyond ``rows`` in the last row of tiles keep whatever is there: a row of a product
    depends on its own row of A only.
    """
    whole, rest = k // STEP, k % STEP
    with code.loop(0, rows) as row:
        source = code.at(a, code.mul(row.index, lda))
        tile = code.mul(code.div(row.index, ROWS), row_tile_bytes(k, planes))
        line = code.mul(code.rem(row.index, ROWS), ROW_BYTES)
        target = code.at(out, code.add(tile, line), I8)
        with code.loop(0, whole) as step:
            at = code.at(target, code.mul(step.index, planes * TILE_BYTES), I8)
            _convert(code, code.at(source, code.mul(step.index, STEP)), STEP, planes, at)
        if rest:
            at = code.at(target, whole * planes * TILE_BYTES, I8)
            _convert(code, code.at(source, whole * STEP), rest, planes, at)


def _convert(code: Code, source: ir.Value, count: int, planes: int, out: ir.Value) -> None:
    """``count`` of one line's 32 values, the others are zero; reads exactly those."""
    for half in (0, bf16.LANES):
        mask = code.first_lanes(count - half, bf16.LANES) if count < half + bf16.LANES else None
        value = code.vload(code.at(source, half), bf16.LANES, mask)
        for plane, part in enumerate(bf16.split(code, value, planes)):
            code.vstore(part, code.at(out, plane * TILE_BYTES + 2 * half, I8))

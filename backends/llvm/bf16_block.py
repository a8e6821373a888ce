"""Rows of an activation, f32 or bf16, as a block of bf16 tiles in scratch.

[row tile of 16][K step of 32][plane][16 rows][32 bf16]: an AMX tile is one contiguous KiB, and a
row of a step is one cache line.
"""

from __future__ import annotations

from llvmlite import ir

from tilewright.backends.llvm import bf16, formats, normalization
from tilewright.backends.llvm.amx import ROW_BYTES, ROWS, TILE_BYTES
from tilewright.backends.llvm.builder import I8, Code, Int

STEP = 32
"""Columns of A (rows of B) in one tile."""

GROUP = 4
"""Steps that all 16 rows pass before the next ones. A whole row at a time would write to one page
a KiB: at K = 1536 and two planes that took 48 us for 128 rows instead of 27, as stores have few
TLB entries."""


def steps(k: int) -> int:
    """Tiles along K."""
    return -(-k // STEP)


def row_tile_bytes(k: int, planes: int) -> int:
    """Bytes of one row of tiles: 16 rows of A."""
    return steps(k) * planes * TILE_BYTES


def emit_block(
    code: Code,
    a: ir.Value,
    lda: Int,
    rows: Int,
    k: int,
    planes: int,
    out: ir.Value,
    stored: str = formats.F32_FORMAT,
    norm: normalization.Rows | None = None,
) -> None:
    """Convert ``rows`` rows of ``k`` elements, ``lda`` apart; K is filled up with zeros.

    ``stored``: their format, f32, or bf16 for one plane. ``norm``: normalize f32 rows first.

    Rows beyond ``rows`` in the last row of tiles keep whatever is there: a row of a product
    depends on its own row of A only.
    """
    whole, rest = k // STEP, k % STEP
    with code.loop(0, rows, ROWS) as tile:
        size = code.min(code.sub(rows, tile.index), ROWS)
        element = formats.ELEMENT[stored]
        source = code.at(a, code.mul(tile.index, lda), element)
        base = code.mul(code.div(tile.index, ROWS), row_tile_bytes(k, planes))
        target = code.at(out, base, I8)

        if norm is not None:
            with code.loop(0, size) as row:
                norm.measure(code, code.at(source, code.mul(row.index, lda)), row.index)

        def line(row: Int, step: Int, count: int) -> None:
            taken = code.at(source, code.mul(row, lda), element)
            taken = code.at(taken, code.mul(step, STEP), element)
            at = code.add(code.mul(step, planes * TILE_BYTES), code.mul(row, ROW_BYTES))
            values = _line(code, taken, count, stored)
            if norm is not None:
                first = code.mul(step, STEP)
                values = [
                    (norm.apply(code, value, row, code.add(first, half), mask), mask)
                    for half, (value, mask) in zip((0, bf16.LANES), values, strict=True)
                ]
            _convert(code, [v for v, _ in values], planes, code.at(target, at, I8), stored)

        with code.loop(0, whole, GROUP) as group:
            end = code.min(code.add(group.index, GROUP), whole)
            with code.loop(0, size) as row, code.loop(group.index, end) as step:
                line(row.index, step.index, STEP)
        if rest:
            with code.loop(0, size) as row:
                line(row.index, whole, rest)


def _line(
    code: Code, source: ir.Value, count: int, stored: str
) -> list[tuple[ir.Value, ir.Value | None]]:
    """``count`` of one line's 32 values in two vectors, and the masks of those that have not all
    of theirs: the others are zero. Reads exactly those."""
    element, found = formats.ELEMENT[stored], []
    for half in (0, bf16.LANES):
        mask = code.first_lanes(count - half, bf16.LANES) if count < half + bf16.LANES else None
        found.append((code.vload(code.at(source, half, element), bf16.LANES, mask, element), mask))
    return found


def _convert(code: Code, values: list[ir.Value], planes: int, out: ir.Value, stored: str) -> None:
    for half, value in zip((0, bf16.LANES), values, strict=True):
        parts = [value] if stored == formats.BF16_FORMAT else bf16.split(code, value, planes)
        for plane, part in enumerate(parts):
            code.vstore(part, code.at(out, plane * TILE_BYTES + 2 * half, I8))

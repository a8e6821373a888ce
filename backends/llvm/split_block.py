"""f32 split into bf16 parts on the fly, in the layout of AMX tiles.

A tile's group of two k is not (2j, 2j + 1) but (j, j + 16) of a step of 32: the order of k does not
matter as long as both operands share it, and then two vectors become one of pairs by a shift and
an or, without a shuffle. All parts but the last are rounded to nearest by adding half a unit to the
bits; the last is cut off, so that NaN stays NaN. Three parts hold an f32 exactly (8 bits each, down
to 2**-126), two are within 2**-16 of it, on average zero off.

Infinity, and what rounds to it, becomes infinity minus infinity: a product with it is NaN, by which
split_gemm finds the blocks to compute in f32 instead.

Rows (A):    [row tile of 16][step of 32][part][16 rows][16 pairs]
Columns (B): [step of 32][part][16 pairs][32 columns], from f32 [K][32]
"""

from __future__ import annotations

from llvmlite import ir

from tilewright.backends.llvm import bf16
from tilewright.backends.llvm.amx import ROW_BYTES, ROWS, TILE_BYTES
from tilewright.backends.llvm.bf16_block import GROUP, STEP
from tilewright.backends.llvm.bf16_microkernel import PLANE_BYTES, ask
from tilewright.backends.llvm.builder import I8, I32, I64, Code, Int
from tilewright.backends.llvm.microkernel import PANEL

PAIRS = STEP // 2
"""Pairs of k in a step, hence pieces that a step of a panel is converted in."""

AHEAD = 4 * STEP * PANEL
"""f32 elements that splitting asks for ahead, into L2: 16 KiB, a microsecond of multiplications at
least. With weights from memory 25 % faster than without, 3 % faster than into L1."""

_LANES = bf16.LANES
_BITS = ir.VectorType(I32, _LANES)
_UPPER = ir.Constant(_BITS, [-65536] * _LANES)
_HALF_UNIT = ir.Constant(_BITS, [0x8000] * _LANES)
_SHIFT = ir.Constant(_BITS, [16] * _LANES)


def split_pairs(code: Code, low: ir.Value, high: ir.Value, planes: int) -> list[ir.Value]:
    """``planes`` vectors of 16 pairs of bf16 (i32, low in the lower half), greatest part first."""
    b = code.b
    real = code.vector(_LANES)
    out = []
    for plane in range(planes):
        last = plane + 1 == planes
        bits = [b.bitcast(value, _BITS) for value in (low, high)]
        if not last:
            bits = [b.add(value, _HALF_UNIT) for value in bits]
        upper = [b.and_(value, _UPPER) for value in bits]
        out.append(b.or_(b.lshr(bits[0], _SHIFT), upper[1]))
        if not last:
            low = b.fsub(low, b.bitcast(upper[0], real))
            high = b.fsub(high, b.bitcast(upper[1], real))
    return out


def emit_rows(
    code: Code,
    a: ir.Value,
    lda: Int,
    rows: Int,
    whole: Int,
    rest: int,
    ends: ir.Value,
    planes: int,
    out: ir.Value,
) -> None:
    """Convert ``rows`` rows, ``lda`` apart, of ``whole`` steps and, if ``ends`` (i1), of the last
    step's ``rest`` < 32 f32, filled up with zeros.

    Rows beyond ``rows`` in the last row of tiles keep whatever is there.
    """
    steps = code.add(whole, code.b.zext(ends, I64)) if rest else whole
    stride = code.mul(steps, planes * TILE_BYTES)
    with code.loop(0, rows, ROWS) as tile:
        size = code.min(code.sub(rows, tile.index), ROWS)
        source = code.at(a, code.mul(tile.index, lda))
        target = code.at(out, code.mul(code.div(tile.index, ROWS), stride), I8)

        def line(row: Int, step: Int, count: int) -> None:
            taken = code.at(code.at(source, code.mul(row, lda)), code.mul(step, STEP))
            halves = []
            for half in (0, _LANES):
                exist = count - half
                mask = code.first_lanes(exist, _LANES) if exist < _LANES else None
                halves.append(code.vload(code.at(taken, half), _LANES, mask))
            at = code.add(code.mul(step, planes * TILE_BYTES), code.mul(row, ROW_BYTES))
            for plane, pairs in enumerate(split_pairs(code, halves[0], halves[1], planes)):
                code.vstore(pairs, code.at(target, code.add(at, plane * TILE_BYTES), I8))

        with code.loop(0, whole, GROUP) as group:
            end = code.min(code.add(group.index, GROUP), whole)
            with code.loop(0, size) as row, code.loop(group.index, end) as step:
                line(row.index, step.index, STEP)
        if rest:
            with code.when(ends), code.loop(0, size) as row:
                line(row.index, whole, rest)


def emit_piece(code: Code, source: ir.Value, out: ir.Value, piece: Int, planes: int) -> None:
    """Convert piece ``piece`` of the whole steps of a panel: rows j and j + 16 of its step."""
    step, pair = code.div(piece, PAIRS), code.rem(piece, PAIRS)
    taken = code.at(source, code.add(code.mul(step, STEP * PANEL), code.mul(pair, PANEL)))
    for row in (0, PAIRS):
        for line in range(0, PANEL, _LANES):
            ask(code, code.at(taken, AHEAD + row * PANEL + line))
    _columns(code, taken, out, step, pair, planes, None)


def emit_tail(
    code: Code, source: ir.Value, out: ir.Value, step: Int, rest: int, planes: int
) -> None:
    """Convert the last step of a panel, of which only ``rest`` < 32 rows exist."""
    with code.loop(0, PAIRS) as pair:
        at = code.add(code.mul(step, STEP * PANEL), code.mul(pair.index, PANEL))
        _columns(code, code.at(source, at), out, step, pair.index, planes, rest)


def _columns(
    code: Code,
    taken: ir.Value,
    out: ir.Value,
    step: Int,
    pair: Int,
    planes: int,
    rest: int | None,
) -> None:
    base = code.add(code.mul(step, planes * PLANE_BYTES), code.mul(pair, 4 * PANEL))
    for column in range(0, PANEL, _LANES):
        values = []
        for row in (0, PAIRS):
            mask = None
            if rest is not None:
                exists = code.cmp("<", code.add(pair, row), rest)
                mask = code.first_lanes(code.select(exists, _LANES, 0), _LANES)
            values.append(code.vload(code.at(taken, row * PANEL + column), _LANES, mask))
        for plane, pairs in enumerate(split_pairs(code, values[0], values[1], planes)):
            at = code.add(base, plane * PLANE_BYTES + 4 * column)
            code.vstore(pairs, code.at(out, at, I8))

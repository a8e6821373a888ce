"""Rows of an 8-bit activation as a block of tiles in scratch, and their sums.

[row tile of 16][K step of 64][16 rows][row_bytes of int8.Dots]: with AMX a tile is one contiguous
KiB. What K lacks of whole steps counts as zero elements of the shifted A; B is zero there.
"""

from __future__ import annotations

from llvmlite import ir

from tilewright.backends.llvm import int8
from tilewright.backends.llvm.amx import ROWS
from tilewright.backends.llvm.builder import I8, I32, Code, Int, zeros
from tilewright.backends.llvm.int8 import STEP, Dots

MOST_ROW_BYTES = 2 * STEP
"""``row_bytes`` of any target: specs reserve scratch for all of them."""


def steps(k: int) -> int:
    """Tiles along K."""
    return -(-k // STEP)


def row_tile_bytes(d: Dots, k: int) -> int:
    """Bytes of one row of tiles: 16 rows of A."""
    return steps(k) * ROWS * d.row_bytes


def line(code: Code, d: Dots, block: ir.Value, row: Int, k: int) -> ir.Value:
    """Address of ``row`` in step 0; the next step is ROWS * row_bytes further on."""
    tile = code.mul(code.div(row, ROWS), row_tile_bytes(d, k))
    return code.at(block, code.add(tile, code.mul(code.rem(row, ROWS), d.row_bytes)), I8)


def emit_block(
    code: Code, d: Dots, a: ir.Value, lda: Int, rows: Int, k: int, signed: bool, out: ir.Value
) -> None:
    """Copy ``rows`` rows of ``k`` bytes, ``lda`` apart; exactly those are read.

    Rows beyond ``rows`` in the last row of tiles keep whatever is there: a row of a product
    depends on its own row of A only.
    """
    whole, rest = k // STEP, k % STEP
    with code.loop(0, rows) as row:
        source = code.at(a, code.mul(row.index, lda), I8)
        target = line(code, d, out, row.index, k)
        with code.loop(0, whole) as step:
            part = code.at(source, code.mul(step.index, STEP), I8)
            _keep(code, d, part, signed, of_step(code, d, target, step.index))
        if rest:
            part = code.at(source, whole * STEP, I8)
            _keep_rest(code, d, part, rest, signed, of_step(code, d, target, whole))


def emit_sums(
    code: Code, d: Dots, block: ir.Value, rows: Int, k: int, signed: bool, out: ir.Value
) -> None:
    """out[row] i32 = sum of the row's k elements as they were given (not shifted)."""
    ones = ir.Constant(ir.VectorType(I8, 4 * d.lanes), [1] * (4 * d.lanes))
    one = int8.split(code, d, code.b.bitcast(ones, ir.VectorType(I32, d.lanes)), True)
    with code.loop(0, rows) as row:
        source = line(code, d, block, row.index, k)
        start = zeros(ir.VectorType(I32, d.lanes))
        with code.loop(0, steps(k), 1, [start]) as step:
            here = of_step(code, d, source, step.index)
            total = step.carried[0]
            for at in range(0, d.row_bytes, 4 * d.lanes * len(one)):
                # Both halves of an s16 step are pairs of k; any pairing with ones gives the sum.
                taken = [
                    code.vload(code.at(here, at + i * 4 * d.lanes, I8), d.lanes, element=I32)
                    for i in range(len(one))
                ]
                total = int8.accumulate(code, d, total, taken, one)
            step.next = [total]
        kind = ir.FunctionType(I32, [start.type])
        name = f"llvm.vector.reduce.add.v{d.lanes}i32"
        found = code.b.call(code.declare(name, kind), [step.carried[0]])
        excess = ir.Constant(I32, d.shift(signed) * steps(k) * STEP)
        code.store(code.b.sub(found, excess), code.at(out, row.index, I32))


def of_step(code: Code, d: Dots, target: ir.Value, step: Int) -> ir.Value:
    """Address of a line in a further step."""
    return code.at(target, code.mul(step, ROWS * d.row_bytes), I8)


def _keep(code: Code, d: Dots, source: ir.Value, signed: bool, out: ir.Value) -> None:
    """STEP bytes from ``source``, which may be ``out``."""
    width = 4 * d.lanes
    for at in range(0, STEP, width):
        put(code, d, code.vload(code.at(source, at, I8), width, element=I8), signed, out, at)


def put(code: Code, d: Dots, value: ir.Value, signed: bool, out: ir.Value, at: int) -> None:
    """The bytes from ``at`` on of a line of ``out``."""
    if d.held == "s16":
        quads = code.b.bitcast(value, ir.VectorType(I32, d.lanes))
        for half, part in enumerate(int8.split(code, d, quads, signed)):
            code.vstore(part, code.at(out, half * STEP + at, I8))
        return
    if d.shift(signed):
        value = int8.flip(code, value)
    code.vstore(value, code.at(out, at, I8))


def _keep_rest(
    code: Code, d: Dots, source: ir.Value, count: int, signed: bool, out: ir.Value
) -> None:
    """``count`` < STEP bytes and zeros, read exactly."""
    width = 4 * d.lanes
    if d.lanes == 16:
        mask = code.first_lanes(count, width)
        put(code, d, code.vload(source, width, mask, I8), signed, out, 0)
        return
    # No byte masks: powers of two go to a line of their own, which is then taken as a whole.
    room = code.at(out, d.row_bytes - STEP, I8)
    for at in range(0, STEP, width):
        code.vstore(zeros(ir.VectorType(I8, width)), code.at(room, at, I8))
    at = 0
    for size in (32, 16, 8, 4, 2, 1):
        if count - at >= size:
            part = code.vload(code.at(source, at, I8), size, element=I8)
            code.vstore(part, code.at(room, at, I8))
            at += size
    keep_in_place(code, d, room, signed, out)


def keep_in_place(code: Code, d: Dots, room: ir.Value, signed: bool, out: ir.Value) -> None:
    """STEP bytes at ``room``, the last ones of the line ``out``: all loads before the stores."""
    width = 4 * d.lanes
    taken = [code.vload(code.at(room, at, I8), width, element=I8) for at in range(0, STEP, width)]
    for i, value in enumerate(taken):
        put(code, d, value, signed, out, i * width)

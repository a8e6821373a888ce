"""The functions around one block of C in split_gemm: its tiles with other work in between, its
epilogue, and the search for NaN. Each kernel has its own, as epilogues differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from llvmlite import ir

from tilewright.backends.llvm import amx, bf16, formats, split_block
from tilewright.backends.llvm import epilogue as epilogues
from tilewright.backends.llvm.amx import ROW_BYTES, ROWS, TILE_BYTES
from tilewright.backends.llvm.bf16_microkernel import PLANE_BYTES, internal
from tilewright.backends.llvm.builder import I1, I8, I64, PTR, VOID, Code, Int, zeros
from tilewright.backends.llvm.epilogue import Epilogue, Operand, load_extras
from tilewright.backends.llvm.microkernel import PANEL

BLOCK = 2 * ROWS
"""Rows of a block of C, which is one panel wide: 2 x 2 tiles."""

BLOCK_BYTES = BLOCK * PANEL * 4
JOB_BYTES = 128

# Fields of a job, 8 bytes each: what to split, and which block of C to finish.
SOURCE, TARGET, PIECE, PIECES, PIECES_AT_ONCE = range(5)
SUMS, OUT, ROW, COLUMN, LINES, EXIST = range(5, 11)

SPLIT_AFTER = {
    3: bf16.ORDER[3],
    6: tuple(bf16.ORDER[6][i] for i in (0, 2, 3, 5)),
}
"""Products -> after which of them pieces are split: as often as a step's 16 pieces divide into
evenly, so that memory is read at a steady rate."""

_LANES = bf16.LANES
_PAIR_BYTES = PANEL * 4
_TILES = ir.FunctionType(VOID, [PTR, I64, PTR, I64, I1, PTR, PTR, PTR, PTR])
_FINISH = ir.FunctionType(VOID, [PTR, I64, PTR, PTR])
_NAN = ir.FunctionType(I1, [PTR, I64])


@dataclass(frozen=True)
class Finish:
    """How C is finished: its columns, epilogue and format. The kernel's args: A, B, extras, C;
    dims: M, row strides of A and C, those of the extras."""

    n: int
    epilogue: Epilogue
    stored: str = formats.F32_FORMAT


def field(code: Code, job: ir.Value, index: int) -> ir.Value:
    """Address of a field."""
    return code.at(job, index, I64)


def tiles_function(code: Code, name: str, tiles: int, products: int, finish: Finish) -> ir.Function:
    """``void (a, bytes to the next row of tiles, b, steps, fresh, sums, job, args, dims)``:
    ``tiles`` x 2 tiles of C, from zero or (not ``fresh``) from ``sums``, to ``sums`` [32][32].
    Between tile instructions it goes on with the job's splitting, and it finishes the job's block
    of C."""
    kernel, name = name, f"{name}_tiles_{tiles}"
    found = code.module.globals.get(name)
    if found is not None:
        return found
    outer = code
    fn, code = internal(code, _TILES, name)
    a, below, b, count, fresh, sums, job, args, dims = fn.args
    planes, order = bf16.PLANES[products], bf16.ORDER[products]
    source, target = (code.load(field(code, job, i), PTR) for i in (SOURCE, TARGET))
    pieces, at_once, lines = (
        code.load(field(code, job, i), I64) for i in (PIECES, PIECES_AT_ONCE, LINES)
    )
    piece = code.load(field(code, job, PIECE), I64)
    line = Line.load(code, finish, job, args, dims)
    # K = 0 has no steps.
    lines_at_once = code.ceildiv(lines, code.max(code.mul(count, len(order)), 1))

    def places() -> list[tuple[int, ir.Value]]:
        return [
            (2 * i + j, code.at(sums, i * ROWS * _PAIR_BYTES + j * ROW_BYTES, I8))
            for i in range(tiles)
            for j in range(2)
        ]

    with code.either(fresh) as (new, more):
        with new:
            for register in range(2 * tiles):
                amx.zero(code, register)
        with more:
            for register, place in places():
                amx.load(code, register, place, _PAIR_BYTES)
    with code.loop(0, count, 1, [piece, ir.Constant(I64, 0)]) as step:
        at_a = code.at(a, code.mul(step.index, planes * TILE_BYTES), I8)
        at_b = code.at(b, code.mul(step.index, planes * PLANE_BYTES), I8)
        held: tuple[int, int] = (-1, -1)
        piece, done = step.carried
        for pair in order:
            plane_a = code.at(at_a, pair[0] * TILE_BYTES, I8)
            plane_b = code.at(at_b, pair[1] * PLANE_BYTES, I8)
            for j in range(2):
                if pair[1] != held[1]:
                    amx.load(code, 6 + j, code.at(plane_b, j * ROW_BYTES, I8), _PAIR_BYTES)
                for i in range(tiles):
                    if j == 0 and pair[0] != held[0]:
                        tile = code.at(plane_a, code.mul(below, i), I8)
                        amx.load(code, 4 + i, tile, ROW_BYTES, passing=True)
                    amx.multiply_bf16(code, 2 * i + j, 4 + i, 6 + j)
            held = pair
            if pair in SPLIT_AFTER[products]:
                stop = code.min(code.add(piece, at_once), pieces)
                with code.loop(piece, stop) as one:
                    split_block.emit_piece(code, source, target, one.index, planes)
                piece = code.max(stop, piece)
            stop = code.min(code.add(done, lines_at_once), lines)
            with code.loop(done, stop) as one:
                line.emit(code, one.index)
            done = code.max(stop, done)
        step.next = [piece, done]
    piece, done = step.carried
    for register, place in places():
        amx.store(code, register, place, _PAIR_BYTES)
    code.store(piece, field(code, job, PIECE))
    with code.when(code.cmp("<", done, lines)):
        code.b.call(finish_function(outer, kernel, finish), [job, done, args, dims])
    code.store(ir.Constant(I64, 0), field(code, job, LINES))
    code.b.ret_void()
    return fn


def finish_function(code: Code, name: str, finish: Finish) -> ir.Function:
    """``void (job, first line, args, dims)``: epilogue of the rest of the job's block."""
    name = f"{name}_finish"
    found = code.module.globals.get(name)
    if found is not None:
        return found
    fn, code = internal(code, _FINISH, name)
    job, first, args, dims = fn.args
    line = Line.load(code, finish, job, args, dims)
    with code.loop(first, code.load(field(code, job, LINES), I64)) as one:
        line.emit(code, one.index)
    code.b.ret_void()
    return fn


@dataclass(frozen=True)
class Line:
    """The lines of one block of C: 32 sums each, of which the first ``exist`` go to ``out`` (its
    element (0, 0)); ``row``, ``column``: its place, for the epilogue's operands."""

    finish: Finish
    sums: ir.Value
    out: ir.Value
    row: Int
    column: Int
    exist: Int
    ldc: Int
    operands: Sequence[Operand]

    @classmethod
    def load(
        cls, code: Code, finish: Finish, job: ir.Value, args: ir.Value, dims: ir.Value
    ) -> Line:
        sums, out = (code.load(field(code, job, i), PTR) for i in (SUMS, OUT))
        row, column, exist = (code.load(field(code, job, i), I64) for i in (ROW, COLUMN, EXIST))
        ldc = code.load(code.at(dims, 2, I64), I64)
        operands = load_extras(code, finish.epilogue, args, 2, dims, 3)
        return cls(finish, sums, out, row, column, exist, ldc, operands)

    def emit(self, code: Code, index: Int) -> None:
        """Apply the epilogue to line ``index`` and store it."""
        stored = self.finish.stored
        element = formats.ELEMENT[stored]
        target = code.at(self.out, code.mul(index, self.ldc), element)
        row = code.add(self.row, index)
        for v in range(0, PANEL, _LANES):
            column = code.add(self.column, v)
            mask = None
            if self.finish.n % PANEL:
                mask = code.first_lanes(code.sub(self.exist, v), _LANES)
            value = code.vload(code.at(self.sums, code.add(code.mul(index, PANEL), v)), _LANES)
            value = epilogues.emit(
                code, self.finish.epilogue, value, self.operands, row, column, mask
            )
            formats.store(code, value, code.at(target, v, element), mask, stored)


def has_nan(code: Code) -> ir.Function:
    """``i1 (block, rows)``: whether any of the rows of a block of sums holds a NaN."""
    name = "tilewright_block_has_nan"
    found = code.module.globals.get(name)
    if found is not None:
        return found
    fn, code = internal(code, _NAN, name)
    block, rows = fn.args
    kind = ir.VectorType(I1, _LANES)
    with code.loop(0, rows, 1, [zeros(kind)]) as row:
        low, high = (
            code.vload(code.at(block, code.add(code.mul(row.index, PANEL), v)), _LANES)
            for v in (0, _LANES)
        )
        found_here = code.b.fcmp_unordered("uno", low, high)
        row.next = [code.b.or_(row.carried[0], found_here)]
    bits = code.b.bitcast(row.carried[0], ir.IntType(_LANES))
    code.b.ret(code.b.icmp_unsigned("!=", bits, ir.Constant(bits.type, 0)))
    return fn

"""f32-faithful products on AMX: f32 operands, split into bf16 parts on the way to the tiles.

B stays f32 in memory, [panel][K][32] as the f32 kernels have it. While the rows of A meet one panel
(or one slice of its K), vector instructions between the tile instructions do two other things, as
both kinds of units work at the same time: they split the next panel, and they apply the epilogue to
the block of C before. So memory, vector units and tiles are busy together.

For each slice of K: rows of A are split once, and every panel of a group is split once and meets
all of them; between slices sums wait in scratch. The slices keep A's parts in L2.

A block of C that comes out with a NaN is computed again in f32: infinities, and what is close
to them, cannot be split.
"""

from __future__ import annotations

from dataclasses import dataclass

from llvmlite import ir

from tilewright.backends.llvm import amx, bf16, gemm, split_block, split_tiles
from tilewright.backends.llvm.amx import ROWS, TILE_BYTES
from tilewright.backends.llvm.bf16_block import STEP
from tilewright.backends.llvm.bf16_microkernel import PLANE_BYTES
from tilewright.backends.llvm.builder import I8, I64, PTR, Code, Int, i64
from tilewright.backends.llvm.epilogue import Epilogue
from tilewright.backends.llvm.frame import Split, TileSplit, Units
from tilewright.backends.llvm.microkernel import PANEL, widest
from tilewright.backends.llvm.split_tiles import (
    BLOCK,
    BLOCK_BYTES,
    COLUMN,
    EXIST,
    JOB_BYTES,
    LINES,
    OUT,
    PIECE,
    PIECES,
    PIECES_AT_ONCE,
    ROW,
    SOURCE,
    SUMS,
    TARGET,
)


@dataclass(frozen=True)
class Shape:
    """What is known when code is generated.

    ``rows``: at most this many rows of A are split at a time, a multiple of BLOCK.
    ``depth``: steps of a slice of K, whose rows of A are split together. ``chunk``: steps of a
    panel that are split together, while the chunk before is multiplied.
    ``group``: panels whose sums wait in scratch if K is sliced.
    ``across``: units of one block of rows, ``width`` panels each.
    """

    k: int
    n: int
    products: int
    epilogue: Epilogue
    rows: int
    depth: int
    chunk: int
    group: int
    width: int

    @property
    def planes(self) -> int:
        return bf16.PLANES[self.products]

    @property
    def panels(self) -> int:
        return -(-self.n // PANEL)

    @property
    def across(self) -> int:
        return -(-self.panels // self.width)

    @property
    def steps(self) -> int:
        return -(-self.k // STEP)

    @property
    def slices(self) -> int:
        return max(1, -(-self.steps // self.depth))

    @property
    def columns_bytes(self) -> int:
        """One chunk of a panel, split."""
        return min(self.chunk, self.depth, self.steps) * self.planes * PLANE_BYTES

    @property
    def row_tile_bytes(self) -> int:
        """One slice of 16 rows, split."""
        return min(self.depth, self.steps) * self.planes * TILE_BYTES

    def scratch(self, rows: str) -> str:
        """Bytes of scratch a thread needs, a formula; ``rows``: that of the rows."""
        blocks = f"ceildiv(min({rows}, {self.rows}), {BLOCK})"
        kept = f"max(2, {blocks})"
        if self.slices > 1:
            kept = f"{min(self.group, self.panels)} * {blocks}"
        return (
            f"{JOB_BYTES + 2 * self.columns_bytes} + {blocks} * {2 * self.row_tile_bytes}"
            f" + {kept} * {BLOCK_BYTES}"
        )


@dataclass(frozen=True)
class Arrays:
    """The kernel's own arguments, and what was read from them."""

    args: ir.Value
    dims: ir.Value
    scratch: ir.Value
    a: ir.Value
    lda: Int
    b: ir.Value
    c: ir.Value
    ldc: Int
    rows: Int


def emit(code: Code, s: Shape, x: Arrays, begin: Int, end: Int) -> None:
    """The units [begin, end); unit = block of rows * across + group of panels."""
    split = TileSplit.of(code, x.rows, s.rows)
    amx.configure(code)
    # Units of one block of rows are one piece of work, so its rows are split once.
    with Units(s.panels, s.width).blocks(code, begin, end) as block:
        start, rows = split.block(code, block.index)
        _Block(code, s, x, start, rows).emit(block.first, block.last)
    amx.release(code)


@dataclass(frozen=True)
class _Place:
    """A chunk: its slice of K, panel within the group, chunk within the slice; its number."""

    slice_: Int
    turn: Int
    chunk: Int
    number: Int


class _Block:
    """One block of rows, [start, start + rows)."""

    def __init__(self, code: Code, s: Shape, x: Arrays, start: Int, rows: Int) -> None:
        self.code, self.s, self.x, self.start, self.rows = code, s, x, start, rows
        self.passes = code.ceildiv(rows, BLOCK)
        self.job = x.scratch
        self.name = code.b.function.name
        self.finish = split_tiles.Finish(s.n, s.epilogue)
        self.columns = code.at(x.scratch, JOB_BYTES, I8)
        self.left = code.at(self.columns, 2 * s.columns_bytes, I8)
        left_bytes = code.mul(self.passes, 2 * s.row_tile_bytes)
        self.sums = code.at(self.left, left_bytes, I8)

    def emit(self, first: Int, last: Int) -> None:
        code, s = self.code, self.s
        group = s.group if s.slices > 1 else max(s.panels, 1)
        self._set(LINES, 0)
        with code.loop(first, last, group) as part:
            count = code.min(code.sub(last, part.index), group)
            self._next_columns(part.index, _Place(0, 0, 0, 0), 0, 1)
            self._drain_columns()
            with code.loop(0, s.slices) as slice_:
                self._split_rows(slice_.index)
                steps, _ = self._extent(slice_.index)
                chunks = code.max(code.ceildiv(steps, s.chunk), 1)
                before = code.mul(slice_.index, code.mul(count, -(-s.depth // s.chunk)))
                with code.loop(0, code.mul(count, chunks)) as item:
                    turn, chunk = code.div(item.index, chunks), code.rem(item.index, chunks)
                    place = _Place(slice_.index, turn, chunk, code.add(before, item.index))
                    self._prepare(part.index, place, count, chunks)
                    self._chunk(place, code.add(part.index, turn))
            self._drain_sums()

    def _prepare(self, first: Int, now: _Place, count: Int, chunks: Int) -> None:
        """Make what follows ``now`` the job between tile instructions."""
        code, s = self.code, self.s
        self._set(PIECES, 0)
        steps = self._chunk_extent(now.slice_, now.chunk)[0]
        number = code.add(now.number, 1)
        chunk = code.add(now.chunk, 1)
        last_chunk = code.cmp("==", chunk, chunks)
        turn = code.select(last_chunk, code.add(now.turn, 1), now.turn)
        chunk = code.select(last_chunk, 0, chunk)
        last_turn = code.cmp("==", turn, count)
        following = code.select(last_turn, code.add(now.slice_, 1), now.slice_)
        turn = code.select(last_turn, 0, turn)
        with code.when(code.cmp("<", following, s.slices)):
            place = _Place(following, turn, chunk, number)
            self._next_columns(code.add(first, turn), place, number, steps)

    # Splitting ---------------------------------------------------------------------------------

    def _extent(self, slice_: Int) -> tuple[Int, ir.Value]:
        """Steps of a slice, whether the last of K is among them."""
        code, s = self.code, self.s
        ends = code.cmp("==", slice_, s.slices - 1)
        rest = s.steps - (s.slices - 1) * s.depth
        return (code.select(ends, rest, s.depth) if s.slices > 1 else rest), ends

    def _chunk_extent(self, slice_: Int, chunk: Int) -> tuple[Int, ir.Value]:
        """Steps of a chunk, whether the last of K is among them."""
        code, s = self.code, self.s
        steps, ends = self._extent(slice_)
        left = code.sub(steps, code.mul(chunk, s.chunk))
        last = code.b.and_(ends, code.cmp("<=", left, s.chunk))
        return code.min(left, s.chunk), last

    def _split_rows(self, slice_: Int) -> None:
        code, s, x = self.code, self.s, self.x
        steps, ends = self._extent(slice_)
        whole = self._whole(steps, ends)
        a = code.at(code.at(x.a, code.mul(self.start, x.lda)), code.mul(slice_, s.depth * STEP))
        split_block.emit_rows(
            code, a, x.lda, self.rows, whole, s.k % STEP, ends, s.planes, self.left
        )

    def _whole(self, steps: Int, ends: ir.Value) -> Int:
        """Steps without the last one of K if that is not a whole one."""
        if self.s.k % STEP == 0:
            return steps
        return self.code.sub(steps, self.code.b.zext(ends, I64))

    def _buffer(self, number: Int) -> ir.Value:
        """Where the columns of a chunk are split to."""
        at = self.code.mul(self.code.rem(number, 2), self.s.columns_bytes)
        return self.code.at(self.columns, at, I8)

    def _next_columns(self, panel: Int, place: _Place, number: Int, steps: Int) -> None:
        """Make a chunk of columns the job between the tile instructions of ``steps`` steps."""
        code, s = self.code, self.s
        own, ends = self._chunk_extent(place.slice_, place.chunk)
        whole = self._whole(own, ends)
        k = code.add(code.mul(place.slice_, s.depth), code.mul(place.chunk, s.chunk))
        at = code.add(code.mul(panel, s.k * PANEL), code.mul(k, STEP * PANEL))
        source, target = code.at(self.x.b, at), self._buffer(number)
        pieces = code.mul(whole, split_block.PAIRS)
        self._set(SOURCE, source)
        self._set(TARGET, target)
        self._set(PIECE, 0)
        self._set(PIECES, pieces)
        slots = len(split_tiles.SPLIT_AFTER[s.products])
        turns = code.max(code.mul(code.mul(self.passes, slots), steps), 1)
        self._set(PIECES_AT_ONCE, code.ceildiv(pieces, turns))
        if s.k % STEP:
            with code.when(ends):
                split_block.emit_tail(code, source, target, whole, s.k % STEP, s.planes)

    def _drain_columns(self) -> None:
        """Do what is left of the splitting job."""
        code, s = self.code, self.s
        source, target = self._get(SOURCE, PTR), self._get(TARGET, PTR)
        with code.loop(self._get(PIECE), self._get(PIECES)) as piece:
            split_block.emit_piece(code, source, target, piece.index, s.planes)

    # Multiplying -------------------------------------------------------------------------------

    def _chunk(self, now: _Place, panel: Int) -> None:
        """All rows by one chunk of one panel."""
        code, s, x = self.code, self.s, self.x
        steps, ends = self._chunk_extent(now.slice_, now.chunk)
        below = code.mul(self._extent(now.slice_)[0], s.planes * TILE_BYTES)
        within = code.mul(now.chunk, s.chunk * s.planes * TILE_BYTES)
        fresh = code.cmp("==", code.add(now.slice_, now.chunk), 0)
        with code.loop(0, self.passes) as turn_of_rows:
            at = code.mul(turn_of_rows.index, BLOCK)
            size = code.min(code.sub(self.rows, at), BLOCK)
            a = code.at(self.left, code.mul(code.mul(turn_of_rows.index, 2), below), I8)
            a = code.at(a, within, I8)
            place = code.add(code.mul(now.turn, self.passes), turn_of_rows.index)
            if s.slices == 1:
                place = code.rem(place, code.max(self.passes, 2))
            sums = code.at(self.sums, code.mul(place, BLOCK_BYTES), I8)
            args = [a, i64(below), self._buffer(now.number), i64(steps), fresh, sums]
            args += [self.job, x.args, x.dims]
            with code.either(code.cmp(">", size, ROWS)) as (two, one):
                with two:
                    code.b.call(self._tiles(2), args)
                with one:
                    code.b.call(self._tiles(1), args)
            with code.when(ends):
                with code.when(code.b.call(split_tiles.has_nan(code), [sums, i64(size)])):
                    self._in_f32(code.add(self.start, at), size, panel, sums)
                row = code.add(self.start, at)
                column = code.mul(panel, PANEL)
                self._set(SUMS, sums)
                self._set(OUT, code.at(code.at(x.c, code.mul(row, x.ldc)), column))
                self._set(ROW, row)
                self._set(COLUMN, column)
                self._set(LINES, size)
                self._set(EXIST, code.sub(s.n, column))
        # A chunk whose rows were too few to hide the splitting in.
        self._drain_columns()

    def _in_f32(self, row: Int, size: Int, panel: Int, sums: ir.Value) -> None:
        code, s, x = self.code, self.s, self.x
        parts = Split.of(code, size, widest(code.target).rows)
        b = code.at(x.b, code.mul(panel, s.k * PANEL))
        with code.loop(0, parts.count) as part:
            start, count = parts.block(code, part.index)
            a = code.at(x.a, code.mul(code.add(row, start), x.lda))
            out = code.at(sums, code.mul(start, PANEL))
            gemm.multiply(code, count, a, x.lda, b, PANEL, s.k * PANEL, s.k, out, PANEL)

    def _drain_sums(self) -> None:
        """Finish the last block of C."""
        code, x = self.code, self.x
        args = [self.job, i64(0), x.args, x.dims]
        code.b.call(split_tiles.finish_function(code, self.name, self.finish), args)
        self._set(LINES, 0)

    def _tiles(self, tiles: int) -> ir.Function:
        return split_tiles.tiles_function(self.code, self.name, tiles, self.s.products, self.finish)

    def _set(self, field: int, value: Int) -> None:
        self.code.store(i64(value), self.code.at(self.job, field, I64))

    def _get(self, field: int, kind: ir.Type = I64) -> ir.Value:
        return self.code.load(self.code.at(self.job, field, I64), kind)

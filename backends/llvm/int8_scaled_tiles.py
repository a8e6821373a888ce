"""Products of 8-bit tiles with scales, one block of C behind.

As in bf16_pipeline, the epilogue of a block is applied between the tile instructions of the next
one, and panels to come are asked for on the way. A block is 32 rows by one panel. A holds s8 here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from llvmlite import ir

from tilewright.backends.llvm import amx, formats
from tilewright.backends.llvm.amx import ROW_BYTES, ROWS, TILE_BYTES
from tilewright.backends.llvm.bf16_microkernel import ask, internal
from tilewright.backends.llvm.builder import F32, I8, I64, PTR, VOID, Code, Int, i64
from tilewright.backends.llvm.epilogue import Operand
from tilewright.backends.llvm.int8_microkernel import STEP_BYTES
from tilewright.backends.llvm.int8_scaled_product import BLOCK_BYTES, Lines, Product
from tilewright.backends.llvm.microkernel import PANEL

_PAIR_BYTES = 4 * PANEL
_SUMS, _OUT, _SCALES, _COLUMNS, _ROW, _COLUMN, _COUNT, _EXIST = range(8)
_TILES = (PTR, PTR, PTR, PTR, PTR, I64, I64, PTR, I64)


def emit_tiles(code: Code, p: Product, rows: Int, first: Int, last: Int) -> None:
    """``rows`` > 0 rows by the panels [first, last)."""
    pipeline = _Pipeline(p, f"{code.b.function.name}")
    passes = code.ceildiv(rows, 2 * ROWS)
    lines = code.ceildiv(STEP_BYTES // 64, code.mul(passes, p.streams))
    code.store(i64(0), pipeline.field(code, _COUNT))
    with code.loop(first, last) as panel:
        turn = code.rem(code.sub(panel.index, first), p.streams)
        group = code.add(code.sub(panel.index, turn), p.streams)
        others = code.max(code.min(code.sub(last, group), p.streams), 0)
        asked = code.select(code.cmp(">", others, 0), lines, 0)
        ahead = p.panel(code, group)
        with code.loop(0, passes) as pass_:
            start = code.mul(pass_.index, 2 * ROWS)
            share = code.add(code.mul(turn, passes), pass_.index)
            share = code.mul(share, code.mul(lines, 64 * max(p.steps, 1)))
            number = code.add(code.mul(panel.index, passes), pass_.index)
            pipeline.block(
                code,
                (start, code.min(code.sub(rows, start), 2 * ROWS)),
                panel.index,
                code.rem(number, 2),
                (code.at(ahead, share, I8), asked, others),
            )
    pipeline.end(code)


@dataclass(frozen=True)
class _Pipeline:
    """The blocks of one kernel, ``name``, in the order in which they are computed."""

    p: Product
    name: str

    def field(self, code: Code, index: int) -> ir.Value:
        """Address of a field of the block that waits."""
        return code.at(self.p.scratch, index, I64)

    def block(
        self,
        code: Code,
        rows: tuple[Int, Int],
        panel: Int,
        buffer: Int,
        ahead: tuple[ir.Value, Int, Int],
    ) -> None:
        """Multiply rows (first, count) by a panel, and finish the block that waits."""
        p, (start, size) = self.p, rows
        tile = code.div(start, ROWS)
        a = code.at(p.a, code.mul(tile, p.steps * TILE_BYTES), I8)
        tail = p.a if p.tail is None else code.at(p.tail, code.mul(tile, TILE_BYTES), I8)
        b = p.panel(code, panel)
        sums = p.sums(code, buffer)
        at, lines, panels = ahead
        args = [a, tail, b, sums, at, i64(lines), i64(panels), p.scratch, i64(p.ldc)]
        args += self._operands()
        with code.either(code.cmp(">", size, ROWS)) as (two, one):
            with two:
                code.b.call(self._tiles(code, 2), args)
            with one:
                code.b.call(self._tiles(code, 1), args)
        element = formats.ELEMENT[p.finish.stored]
        column = code.mul(panel, PANEL)
        out = code.at(code.at(p.c, code.mul(start, p.ldc), element), column, element)
        columns = code.at(b, p.steps * STEP_BYTES + 4 * PANEL, I8)
        for index, value in (
            (_SUMS, sums),
            (_OUT, out),
            (_SCALES, code.at(p.scales, start, F32)),
            (_COLUMNS, columns),
            (_ROW, code.add(p.row, start)),
            (_COLUMN, column),
            (_COUNT, size),
            (_EXIST, code.sub(p.finish.n, column)),
        ):
            code.store(i64(value), self.field(code, index))

    def end(self, code: Code) -> None:
        """Finish the last block."""
        name = f"{self.name}_finish"
        fn = code.module.globals.get(name)
        if fn is None:
            fn, inner = internal(code, ir.FunctionType(VOID, [PTR, I64, *self._kinds()]), name)
            lines = self._lines(inner, fn.args[0], fn.args[1], fn.args[2:])
            lines.emit(inner, 0, _count(inner, fn.args[0]))
            inner.b.ret_void()
        code.b.call(fn, [self.p.scratch, i64(self.p.ldc), *self._operands()])

    def _operands(self) -> list[ir.Value]:
        return [x for o in self.p.operands for x in (o.base, i64(o.stride_m))]

    def _kinds(self) -> list[ir.Type]:
        return [kind for _ in self.p.operands for kind in (PTR, I64)]

    def _lines(
        self, code: Code, job: ir.Value, ldc: ir.Value, operands: Sequence[ir.Value]
    ) -> Lines:
        pointers = (_SUMS, _OUT, _SCALES, _COLUMNS)
        sums, out, scales, columns = (code.load(code.at(job, i, I64), PTR) for i in pointers)
        row, column, exist = (code.load(code.at(job, i, I64), I64) for i in (_ROW, _COLUMN, _EXIST))
        tails = code.at(sums, 2 * BLOCK_BYTES, I8) if self.p.finish.tail else None
        pairs = tuple(Operand(*operands[i : i + 2]) for i in range(0, len(operands), 2))
        return Lines(
            self.p.finish, sums, tails, out, scales, columns, row, column, exist, ldc, pairs
        )

    def _tiles(self, code: Code, tiles: int) -> ir.Function:
        """The product of ``tiles`` x 2 tiles of C."""
        name = f"{self.name}_tiles_{tiles}"
        found = code.module.globals.get(name)
        if found is not None:
            return found
        p = self.p
        fn, code = internal(code, ir.FunctionType(VOID, [*_TILES, *self._kinds()]), name)
        a, tail, b, sums, ahead, lines, panels, job, ldc = fn.args[: len(_TILES)]
        waiting = self._lines(code, job, ldc, fn.args[len(_TILES) :])
        count = _count(code, job)
        slots = p.steps + (1 if p.finish.tail else 0)
        at_once = code.round_up(code.ceildiv(count, max(slots, 1)), 2)
        for register in range(2 * tiles):
            amx.zero(code, register)
        streams = [
            code.mul(code.min(stream, code.sub(panels, 1)), p.panel_bytes)
            for stream in range(p.streams)
        ]
        below = p.steps * TILE_BYTES
        with code.loop(0, p.steps, 1, [ahead, i64(0)]) as step:
            fetched, done = step.carried
            with code.loop(0, lines, 1, [fetched]) as one:
                for stream in streams:
                    ask(code, code.at(one.carried[0], stream, I8))
                one.next = [code.at(one.carried[0], 64, I8)]
            at_a = code.at(a, code.mul(step.index, TILE_BYTES), I8)
            _load(code, tiles, at_a, below, code.at(b, code.mul(step.index, STEP_BYTES), I8))
            for i in range(tiles):
                for j in range(2):
                    amx.multiply_signed_int8(code, 2 * i + j, 4 + i, 6 + j)
            stop = code.min(code.add(done, at_once), count)
            waiting.emit(code, done, stop)
            step.next = [one.carried[0], code.max(stop, done)]
        _store(code, tiles, sums)
        if p.finish.tail:
            for register in range(2 * tiles):
                amx.zero(code, register)
            at_b = code.at(b, p.steps * STEP_BYTES + 2 * _PAIR_BYTES, I8)
            _load(code, tiles, tail, TILE_BYTES, at_b)
            for i in range(tiles):
                for j in range(2):
                    amx.multiply_bf16(code, 2 * i + j, 4 + i, 6 + j)
        waiting.emit(code, step.carried[1], count)
        if p.finish.tail:
            _store(code, tiles, code.at(sums, 2 * BLOCK_BYTES, I8))
        code.b.ret_void()
        return fn


def _count(code: Code, job: ir.Value) -> ir.Value:
    return code.load(code.at(job, _COUNT, I64), I64)


def _load(code: Code, tiles: int, a: ir.Value, below: int, b: ir.Value) -> None:
    """Tiles of A to registers 4 and 5, those of B to 6 and 7; A passes by the panel, which shall
    stay in L1."""
    for j in range(2):
        if j < tiles:
            amx.load(code, 4 + j, code.at(a, j * below, I8), ROW_BYTES, passing=True)
        amx.load(code, 6 + j, code.at(b, j * ROW_BYTES, I8), _PAIR_BYTES)


def _store(code: Code, tiles: int, out: ir.Value) -> None:
    for i in range(tiles):
        row = code.at(out, i * ROWS * _PAIR_BYTES, I8)
        for j in range(2):
            amx.store(code, 2 * i + j, code.at(row, j * ROW_BYTES, I8), _PAIR_BYTES)

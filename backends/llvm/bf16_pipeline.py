"""Products of bf16 tiles with an epilogue, one block of C behind.

Tiles and vectors are multiplied by different units, so the epilogue of a block is applied between
the tile instructions of the next one: as long as it is the shorter of the two, it is free. Panels
of B that are yet to come are asked for in the same way, several at once: memory answers several
streams faster than one. Asking for the lines of C that a block will go to costs 5 to 10 % here.

Where K is long it is multiplied in slices: a panel's part stays in L1 while all rows pass, and sums
of all rows wait. With weights from L3 128 x 1536 x 384 takes 0.89 to 0.95 of the time, 128 x 3072 x
768 0.85 to 0.87, 128 x 1024 x 1024 0.91 to 0.95; BERT, with weights from memory, 0.98. It takes
1.10 if panels are not asked for in the order in which they lie, whatever that of rows and slices.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from llvmlite import ir

from tilewright.backends.llvm import amx, bf16, formats
from tilewright.backends.llvm.amx import ROW_BYTES, ROWS
from tilewright.backends.llvm.bf16_microkernel import (
    PLANE_BYTES,
    ask,
    internal,
    load_and_multiply,
)
from tilewright.backends.llvm.builder import I8, I64, PTR, VOID, Code, Int, i64
from tilewright.backends.llvm.epilogue import Operand
from tilewright.backends.llvm.microkernel import PANEL
from tilewright.backends.llvm.split_tiles import (
    BLOCK_BYTES,
    COLUMN,
    EXIST,
    JOB_BYTES,
    LINES,
    OUT,
    ROW,
    SUMS,
    Finish,
    Line,
    field,
)

_PAIR_BYTES = PANEL * 4
_FIXED = (PTR, PTR, I64, I64, PTR, PTR, I64, I64, PTR, I64, I64, I64, I64)

BLOCKS = 9
"""Blocks of C in scratch: the one that waits, and those of a panel whose sums are incomplete."""

SCRATCH_BYTES = JOB_BYTES + BLOCKS * BLOCK_BYTES
"""Scratch of the blocks, and of what is to be done with the one that waits."""


@dataclass(frozen=True)
class Left:
    """Tiles of A: the first one, bytes from row to row, step to step and tile to tile."""

    base: ir.Value
    row: Int
    step: Int
    tile: Int


@dataclass(frozen=True)
class Ahead:
    """What each step of a block asks for: ``lines`` cache lines from ``base`` on, the next step
    the next ones, and as many of each of the ``panels`` - 1 (> 0 unless ``lines`` is 0) panels
    behind it."""

    base: ir.Value
    lines: Int
    panels: Int


@dataclass(frozen=True)
class Place:
    """A block of C: first row and column, rows (up to 32), and the buffer of its sums, one of
    BLOCKS. ``fresh``, ``whole``: whether these are its first and its last steps."""

    row: Int
    column: Int
    size: Int
    buffer: Int
    fresh: ir.Value
    whole: ir.Value


@dataclass(frozen=True)
class Pipeline:
    """One kernel's blocks, in the order in which they are computed.

    ``scratch``: SCRATCH_BYTES. ``c``: element (0, 0) of C in ``finish.stored``, row stride
    ``ldc``; ``row``, ``column``: its global index, for the epilogue's operands. ``streams``: panels
    of ``panel_bytes`` that may be asked for at once.
    """

    finish: Finish
    products: int
    operands: Sequence[Operand]
    scratch: ir.Value
    c: ir.Value
    ldc: Int
    row: Int
    column: Int
    panel_bytes: int
    streams: int

    def begin(self, code: Code) -> None:
        """Before the first block."""
        code.store(i64(0), field(code, self.scratch, LINES))

    def block(
        self, code: Code, a: Left, b: ir.Value, steps: Int, place: Place, ahead: Ahead
    ) -> None:
        """Multiply rows by ``steps`` steps of a panel, and finish the block that waits."""
        sums = code.at(self.scratch, code.mul(place.buffer, BLOCK_BYTES), I8)
        sums = code.at(sums, JOB_BYTES, I8)
        element = formats.ELEMENT[self.finish.stored]
        out = code.at(self.c, code.mul(place.row, self.ldc), element)
        out = code.at(out, place.column, element)
        fresh = code.b.zext(place.fresh, I64)
        args = [a.base, b, i64(steps), fresh, sums, ahead.base, i64(ahead.lines), i64(ahead.panels)]
        args += [self.scratch, i64(self.ldc)]
        args += [i64(a.row), i64(a.step), i64(a.tile), *self._operands()]
        with code.either(code.cmp(">", place.size, ROWS)) as (two, one):
            with two:
                code.b.call(self._tiles(code, 2), args)
            with one:
                code.b.call(self._tiles(code, 1), args)
        for index, value in (
            (SUMS, sums),
            (OUT, out),
            (ROW, code.add(self.row, place.row)),
            (COLUMN, code.add(self.column, place.column)),
            (LINES, code.select(place.whole, place.size, 0)),
            (EXIST, code.sub(self.finish.n, place.column)),
        ):
            code.store(i64(value), field(code, self.scratch, index))

    def end(self, code: Code) -> None:
        """Finish the last block."""
        name = f"{code.b.function.name}_finish"
        fn = code.module.globals.get(name)
        kind = ir.FunctionType(VOID, [PTR, I64, *self._kinds()])
        if fn is None:
            fn, inner = internal(code, kind, name)
            line = self._line(inner, fn.args[0], fn.args[1], fn.args[2:])
            with inner.loop(0, inner.load(field(inner, fn.args[0], LINES), I64)) as one:
                line.emit(inner, one.index)
            inner.b.ret_void()
        code.b.call(fn, [self.scratch, i64(self.ldc), *self._operands()])

    def _operands(self) -> list[ir.Value]:
        return [x for o in self.operands for x in (o.base, i64(o.stride_m))]

    def _kinds(self) -> list[ir.Type]:
        return [kind for _ in self.operands for kind in (PTR, I64)]

    def _line(self, code: Code, job: ir.Value, ldc: ir.Value, operands: Sequence[ir.Value]) -> Line:
        sums, out = (code.load(field(code, job, i), PTR) for i in (SUMS, OUT))
        row, column, exist = (code.load(field(code, job, i), I64) for i in (ROW, COLUMN, EXIST))
        pairs = tuple(Operand(*operands[i : i + 2]) for i in range(0, len(operands), 2))
        return Line(self.finish, sums, out, row, column, exist, ldc, pairs)

    def _tiles(self, code: Code, tiles: int) -> ir.Function:
        name = f"{code.b.function.name}_tiles_{tiles}"
        found = code.module.globals.get(name)
        if found is not None:
            return found
        fn, code = internal(code, ir.FunctionType(VOID, [*_FIXED, *self._kinds()]), name)
        a, b, count, fresh, sums, ahead, lines, panels, job, ldc, *apart = fn.args[: len(_FIXED)]
        row_bytes, step_bytes, below = apart
        line = self._line(code, job, ldc, fn.args[len(_FIXED) :])
        order, planes = bf16.ORDER[self.products], bf16.PLANES[self.products]
        # K = 0 has no steps.
        waiting = code.load(field(code, job, LINES), I64)
        slots = code.max(code.mul(count, len(order)), 1)
        at_once = code.ceildiv(waiting, slots)
        places = [
            (2 * i + j, code.at(sums, i * ROWS * _PAIR_BYTES + j * ROW_BYTES, I8))
            for i in range(tiles)
            for j in range(2)
        ]
        with code.either(code.cmp("!=", fresh, 0)) as (new, more):
            with new:
                for register, _ in places:
                    amx.zero(code, register)
            with more:
                for register, place in places:
                    amx.load(code, register, place, _PAIR_BYTES)
        streams = [
            code.mul(code.min(stream, code.sub(panels, 1)), self.panel_bytes)
            for stream in range(self.streams)
        ]
        with code.loop(0, count, 1, [ahead, i64(0)]) as step:
            fetched, done = step.carried
            with code.loop(0, lines, 1, [fetched]) as one:
                for stream in streams:
                    ask(code, code.at(one.carried[0], stream, I8))
                one.next = [code.at(one.carried[0], 64, I8)]
            fetched = one.carried[0]
            at_a = code.at(a, code.mul(step.index, step_bytes), I8)
            at_b = code.at(b, code.mul(step.index, planes * PLANE_BYTES), I8)
            held: tuple[int, int] = (-1, -1)
            for pair in order:
                load_and_multiply(code, tiles, pair, held, at_a, row_bytes, below, at_b)
                held = pair
                stop = code.min(code.add(done, at_once), waiting)
                with code.loop(done, stop) as one:
                    line.emit(code, one.index)
                done = code.max(stop, done)
            step.next = [fetched, done]
        for register, place in places:
            amx.store(code, register, place, _PAIR_BYTES)
        with code.loop(step.carried[1], waiting) as one:
            line.emit(code, one.index)
        code.b.ret_void()
        return fn

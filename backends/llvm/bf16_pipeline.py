"""Products of bf16 tiles with an epilogue, one block of C behind.

Tiles and vectors are multiplied by different units, so the epilogue of a block is applied between
the tile instructions of the next one: as long as it is the shorter of the two, it is free. The next
panel of B is asked for in the same way. Blocks of C, 32 rows by one panel, wait in two buffers in
turn. Asking for the lines of C that a block will go to costs 5 to 10 % here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from llvmlite import ir

from tilewright.backends.llvm import amx, bf16, formats
from tilewright.backends.llvm.amx import ROW_BYTES, ROWS, TILE_BYTES
from tilewright.backends.llvm.bf16_microkernel import PLANE_BYTES, ask, internal, packed
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

SCRATCH_BYTES = JOB_BYTES + 2 * BLOCK_BYTES
"""Scratch of the block that waits, and of the one that is computed."""

_PAIR_BYTES = PANEL * 4
_FIXED = (PTR, PTR, I64, PTR, PTR, I64, PTR, I64)


@dataclass(frozen=True)
class Pipeline:
    """One kernel's blocks, in the order in which they are computed.

    ``scratch``: SCRATCH_BYTES. ``c``: element (0, 0) of C in ``finish.stored``, row stride ``ldc``;
    ``row``, ``column``: its global index, for the epilogue's operands. ``strided``: rows of A lie
    apart.
    """

    finish: Finish
    products: int
    operands: Sequence[Operand]
    scratch: ir.Value
    c: ir.Value
    ldc: Int
    row: Int
    column: Int
    strided: bool = False

    def begin(self, code: Code) -> None:
        """Before the first block."""
        code.store(i64(0), field(code, self.scratch, LINES))

    def block(
        self,
        code: Code,
        a: ir.Value,
        b: ir.Value,
        steps: Int,
        place: tuple[Int, Int, Int],
        size: Int,
        ahead: ir.Value,
        lines: Int,
        apart: Sequence[Int] = (),
    ) -> None:
        """Multiply up to 32 rows (``size``) by a panel, and finish the block before.

        ``place``: first row and column of the block in C, and its number, any that alternate
        between even and odd. Each of the ``steps`` asks for ``lines`` cache lines from ``ahead``
        on. ``apart``: where A is strided, bytes from row to row, step to step, tile to tile.
        """
        start, at, number = place
        sums = code.at(self.scratch, code.mul(code.rem(number, 2), BLOCK_BYTES), I8)
        sums = code.at(sums, JOB_BYTES, I8)
        element = formats.ELEMENT[self.finish.stored]
        out = code.at(code.at(self.c, code.mul(start, self.ldc), element), at, element)
        args = [a, b, i64(steps), sums, ahead, i64(lines), self.scratch, i64(self.ldc)]
        args += [i64(x) for x in apart]
        args += self._operands()
        with code.either(code.cmp(">", size, ROWS)) as (two, one):
            with two:
                code.b.call(self._tiles(code, 2), args)
            with one:
                code.b.call(self._tiles(code, 1), args)
        for index, value in (
            (SUMS, sums),
            (OUT, out),
            (ROW, code.add(self.row, start)),
            (COLUMN, code.add(self.column, at)),
            (LINES, size),
            (EXIST, code.sub(self.finish.n, at)),
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
        fixed = (*_FIXED, *(I64,) * (3 * self.strided))
        fn, code = internal(code, ir.FunctionType(VOID, [*fixed, *self._kinds()]), name)
        a, b, count, sums, ahead, lines, job, ldc, *apart = fn.args[: len(fixed)]
        line = self._line(code, job, ldc, fn.args[len(fixed) :])
        order, planes = bf16.ORDER[self.products], bf16.PLANES[self.products]
        row_bytes, step_bytes, below = apart or packed(code, count, planes)
        # K = 0 has no steps.
        waiting = code.load(field(code, job, LINES), I64)
        slots = code.max(code.mul(count, len(order)), 1)
        at_once = code.ceildiv(waiting, slots)
        for register in range(2 * tiles):
            amx.zero(code, register)
        with code.loop(0, count, 1, [ahead, i64(0)]) as step:
            fetched, done = step.carried
            with code.loop(0, lines, 1, [fetched]) as one:
                ask(code, one.carried[0])
                one.next = [code.at(one.carried[0], 64, I8)]
            fetched = one.carried[0]
            at_a = code.at(a, code.mul(step.index, step_bytes), I8)
            at_b = code.at(b, code.mul(step.index, planes * PLANE_BYTES), I8)
            held: tuple[int, int] = (-1, -1)
            for pair in order:
                plane_a = code.at(at_a, pair[0] * TILE_BYTES, I8)
                plane_b = code.at(at_b, pair[1] * PLANE_BYTES, I8)
                for j in range(2):
                    if pair[1] != held[1]:
                        amx.load(code, 6 + j, code.at(plane_b, j * ROW_BYTES, I8), _PAIR_BYTES)
                    for i in range(tiles):
                        if j == 0 and pair[0] != held[0]:
                            tile = code.at(plane_a, code.mul(below, i), I8)
                            amx.load(code, 4 + i, tile, row_bytes, passing=True)
                        amx.multiply_bf16(code, 2 * i + j, 4 + i, 6 + j)
                held = pair
                stop = code.min(code.add(done, at_once), waiting)
                with code.loop(done, stop) as one:
                    line.emit(code, one.index)
                done = code.max(stop, done)
            step.next = [fetched, done]
        for i in range(tiles):
            for j in range(2):
                place = code.at(sums, i * ROWS * _PAIR_BYTES + j * ROW_BYTES, I8)
                amx.store(code, 2 * i + j, place, _PAIR_BYTES)
        with code.loop(step.carried[1], waiting) as one:
            line.emit(code, one.index)
        code.b.ret_void()
        return fn

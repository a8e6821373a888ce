"""A product of 8-bit rows and columns with a scale each, at code generation time.

C = epilogue(row scale * column scale * (A B) + tail), A a block of int8_block, packed B:
[panel] of [K step of 64][16 quads of k][32 columns][4] s8, then i32 [32] column sums, f32 [32]
column scales, and, with a tail, [16 pairs of k][32 columns][2] bf16.
The tail is a product in bf16 with f32 sums, of one step of 32 k. Where rows have a middle, their
elements are row scale * A + middle, and middle * column sum joins row scale * (A B).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from itertools import zip_longest

from llvmlite import ir

from tilewright.backends.llvm import epilogue as epilogues
from tilewright.backends.llvm import formats, rounding
from tilewright.backends.llvm.amx import ROWS
from tilewright.backends.llvm.bf16_microkernel import PLANE_BYTES
from tilewright.backends.llvm.builder import F32, I8, I32, Code, Int
from tilewright.backends.llvm.epilogue import Epilogue, Operand
from tilewright.backends.llvm.int8_block import steps
from tilewright.backends.llvm.int8_microkernel import STEP_BYTES
from tilewright.backends.llvm.microkernel import PANEL

STREAM_BYTES = 1 << 19
"""L2 for panels that are asked for, and as many that are in use."""

JOB_BYTES = 128
BLOCK_BYTES = 2 * ROWS * PANEL * 4
SCRATCH_BYTES = JOB_BYTES + 4 * BLOCK_BYTES + 4 * PANEL * 4
"""Scratch: a job, two blocks of sums and two of tails, what the sums of four panels begin with."""


def panel_bytes(k: int, tail: bool) -> int:
    """Bytes of one packed panel."""
    return steps(k) * STEP_BYTES + 2 * 4 * PANEL + (PLANE_BYTES if tail else 0)


@dataclass(frozen=True)
class Finish:
    """How C is finished: its columns, epilogue and format, and whether sums have a tail.
    ``middle``: how many f32 behind the scale of a row its middle is, 0 if it has none."""

    n: int
    epilogue: Epilogue
    stored: str
    tail: bool
    middle: int = 0


@dataclass(frozen=True)
class Product:
    """A block product.

    ``a``: block of int8_block; ``tail``: its rows of 32 bf16, if there is a tail; ``b``: panel 0;
    ``c``: element (0, 0) in ``finish.stored``, row stride ``ldc``. ``scales``: of the rows.
    ``scratch``: SCRATCH_BYTES. ``row``: global index of row 0, for the epilogue's operands.
    """

    a: ir.Value
    tail: ir.Value | None
    b: ir.Value
    k: int
    finish: Finish
    c: ir.Value
    ldc: Int
    scales: ir.Value
    scratch: ir.Value
    operands: Sequence[Operand]
    row: Int = 0

    @property
    def steps(self) -> int:
        return steps(self.k)

    @property
    def panel_bytes(self) -> int:
        return panel_bytes(self.k, self.finish.tail)

    @property
    def streams(self) -> int:
        """Panels that are asked for at once: see bf16_product."""
        return max(1, min(4, STREAM_BYTES // (2 * self.panel_bytes)))

    def panel(self, code: Code, number: Int) -> ir.Value:
        """Address of a panel."""
        return code.at(self.b, code.mul(number, self.panel_bytes), I8)

    def sums(self, code: Code, number: Int = 0) -> ir.Value:
        """A block of sums in scratch."""
        return code.at(self.scratch, code.add(JOB_BYTES, code.mul(number, BLOCK_BYTES)), I8)

    def tails(self, code: Code, number: Int = 0) -> ir.Value:
        """A block of tails in scratch."""
        return self.sums(code, code.add(number, 2))

    def begins(self, code: Code) -> ir.Value:
        """i32 [4][32] in scratch."""
        return self.sums(code, 4)


@dataclass(frozen=True)
class Lines:
    """A block of sums [rows][32] on its way to C.

    ``sums`` i32, ``tails`` f32, ``out``: element (0, 0) of the block in C. ``scales``: of its rows.
    ``columns``: f32 [32] scales of its columns. ``row``, ``column``: its place, for the epilogue's
    operands. ``exist``: columns that C has from here on.
    """

    finish: Finish
    sums: ir.Value
    tails: ir.Value | None
    out: ir.Value
    scales: ir.Value
    columns: ir.Value
    row: Int
    column: Int
    exist: Int
    ldc: Int
    operands: Sequence[Operand]

    def emit(self, code: Code, first: Int, last: Int) -> None:
        """The lines [first, last) through the epilogue, two at a time."""
        pairs = code.add(first, code.mul(code.div(code.sub(last, first), 2), 2))
        with code.loop(first, pairs, 2) as index:
            self._lines(code, [index.index, code.add(index.index, 1)])
        with code.loop(pairs, last) as index:
            self._lines(code, [index.index])

    def _lines(self, code: Code, lines: Sequence[Int]) -> None:
        if self.finish.n % PANEL == 0:
            self._vectors(code, lines, masked=False)
        elif code.target.lanes_f32 == 16:
            self._vectors(code, lines, masked=True)
        else:
            with code.either(code.cmp(">=", self.exist, PANEL)) as (full, edge):
                with full:
                    self._vectors(code, lines, masked=False)
                with edge:
                    self._vectors(code, lines, masked=True)

    def _vectors(self, code: Code, lines: Sequence[Int], masked: bool) -> None:
        """Vectors side by side: a chain of a polynomial's steps would fill the scheduler."""
        lanes = code.target.lanes_f32
        places = [(index, v) for index in lines for v in range(0, PANEL, lanes)]
        values: list[ir.Value] = []
        with _side_by_side(code) as part:
            for index, v in places:
                with part():
                    values.append(self._finished(code, index, v, self._mask(code, v, masked)))
        element = formats.ELEMENT[self.finish.stored]
        for (index, v), value in zip(places, values, strict=True):
            target = code.at(self.out, code.add(code.mul(index, self.ldc), v), element)
            mask = self._mask(code, v, masked)
            rounding.store(code, value, target, mask, self.finish.stored)

    def _mask(self, code: Code, v: int, masked: bool) -> ir.Value | None:
        lanes = code.target.lanes_f32
        return code.first_lanes(code.sub(self.exist, v), lanes) if masked else None

    def _finished(self, code: Code, index: Int, v: int, mask: ir.Value | None) -> ir.Value:
        lanes = code.target.lanes_f32
        factor = code.splat(code.load(code.at(self.scales, index)), lanes)
        place = code.add(code.mul(index, PANEL), v)
        whole = code.vload(code.at(self.sums, place, I32), lanes, element=I32)
        value = code.b.fmul(code.b.sitofp(whole, code.vector(lanes)), factor)
        if self.finish.middle:
            middle = code.load(code.at(self.scales, code.add(index, self.finish.middle)))
            sums = code.vload(code.at(self.columns, v - PANEL), lanes, element=I32)
            total = code.b.sitofp(sums, code.vector(lanes))
            value = code.fma(code.splat(middle, lanes), total, value)
        scale = code.vload(code.at(self.columns, v), lanes)
        if self.tails is None:
            value = code.b.fmul(value, scale)
        else:
            value = code.fma(value, scale, code.vload(code.at(self.tails, place, F32), lanes))
        row, column = code.add(self.row, index), code.add(self.column, v)
        return epilogues.emit(code, self.finish.epilogue, value, self.operands, row, column, mask)


@contextmanager
def _side_by_side(code: Code) -> Iterator[Callable[[], AbstractContextManager[None]]]:
    """Instructions of parts that know nothing of each other, taken in turn: one of each part, then
    the next ones. No part may leave the basic block."""
    block, parts = code.b.block, []
    start = len(block.instructions)

    @contextmanager
    def part() -> Iterator[None]:
        first = len(block.instructions)
        yield
        assert code.b.block is block, "a part left its basic block"
        parts.append(block.instructions[first:])

    yield part
    assert sum(map(len, parts)) == len(block.instructions) - start
    block.instructions[start:] = [x for row in zip_longest(*parts) for x in row if x is not None]

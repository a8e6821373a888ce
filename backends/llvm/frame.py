"""What every kernel has around its computation: the function, its arguments by name, and the blocks
and panels that a range of units stands for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from llvmlite import ir

from tilewright.backends.llvm.amx import ROWS
from tilewright.backends.llvm.builder import I32, I64, KERNEL_TYPE, PTR, Code, Int, i64
from tilewright.backends.llvm.epilogue import Epilogue, Operand, load_extras
from tilewright.backends.target import Target


@dataclass(frozen=True)
class Frame:
    """A kernel function while it is emitted, and its arguments."""

    fn: ir.Function
    code: Code

    @classmethod
    def open(cls, module: ir.Module, target: Target, name: str) -> Frame:
        """A new function of the kernel ABI in ``module``, at its first instruction."""
        fn = ir.Function(module, KERNEL_TYPE, name)
        return cls(fn, Code(ir.IRBuilder(fn.append_basic_block("entry")), target))

    @property
    def args(self) -> ir.Value:
        return self.fn.args[0]

    @property
    def dims(self) -> ir.Value:
        return self.fn.args[1]

    @property
    def begin(self) -> ir.Value:
        return self.fn.args[2]

    @property
    def end(self) -> ir.Value:
        return self.fn.args[3]

    @property
    def scratch(self) -> ir.Value:
        return self.fn.args[4]

    def dim(self, i: int) -> ir.Value:
        """Run-time dimension parameter p<i>."""
        return load_dim(self.code, self.dims, i)

    def pointer(self, i: int) -> ir.Value:
        """Data pointer of operand or result ``i``."""
        return load_pointer(self.code, self.args, i)

    def close(self) -> ir.Function:
        """Return status 0; the finished function."""
        ok(self.code)
        return self.fn


def load_dim(code: Code, dims: ir.Value, i: int) -> ir.Value:
    """Run-time dimension parameter p<i>."""
    return code.load(code.at(dims, i, I64), I64)


def load_pointer(code: Code, args: ir.Value, i: int) -> ir.Value:
    """Data pointer of operand or result ``i``."""
    return code.load(code.at(args, i, PTR), PTR)


def ok(code: Code) -> None:
    """Return status 0."""
    code.b.ret(ir.Constant(I32, 0))


@dataclass(frozen=True)
class Matmul:
    """Arguments of a matmul with packed B: A, B, others, the epilogue's extras, others, C; dims M,
    the row strides of A and C, then those of extras."""

    m: ir.Value
    lda: ir.Value
    ldc: ir.Value
    a: ir.Value
    b: ir.Value
    operands: tuple[Operand, ...]
    c: ir.Value

    @classmethod
    def load(cls, frame: Frame, epilogue: Epilogue, before: int = 2, after: int = 0) -> Matmul:
        """``before``: arguments in front of the extras; ``after``: between them and C."""
        m, lda, ldc = (frame.dim(i) for i in range(3))
        a, b = frame.pointer(0), frame.pointer(1)
        operands = load_extras(frame.code, epilogue, frame.args, before, frame.dims, 3)
        return cls(m, lda, ldc, a, b, operands, frame.pointer(before + len(operands) + after))


@dataclass(frozen=True)
class Split:
    """A run-time count of rows cut into blocks of nearly equal size, none above the widest.

    128 rows at 14 are 8 blocks of 13 and 2 of 12, not 9 of 14 and one of 2.
    """

    count: Int
    size: Int
    larger: Int

    @classmethod
    def of(cls, code: Code, total: Int, most: int) -> Split:
        count = code.ceildiv(total, most)
        # A count of 0 must not divide; its loop runs no trip.
        safe = code.max(count, 1)
        size = code.div(total, safe)
        return cls(count, size, code.sub(total, code.mul(size, safe)))

    def block(self, code: Code, i: Int) -> tuple[Int, Int]:
        """First row and number of rows of block ``i``: the first ``larger`` have one more."""
        start = code.add(code.mul(i, self.size), code.min(i, self.larger))
        extra = code.b.zext(code.cmp("<", i, self.larger), I64)
        return start, code.add(self.size, extra)


@dataclass(frozen=True)
class TileSplit:
    """The same for tiles: all blocks but the last are whole pairs of tiles. None is empty if the
    widest is a multiple of such pairs too."""

    total: Int
    size: Int

    @classmethod
    def of(cls, code: Code, total: Int, most: int) -> TileSplit:
        count = code.max(code.ceildiv(total, most), 1)
        return cls(total, code.round_up(code.ceildiv(total, count), 2 * ROWS))

    def block(self, code: Code, i: Int) -> tuple[Int, Int]:
        """First row and number of rows of block ``i``."""
        start = code.mul(i, self.size)
        return start, code.min(code.sub(self.total, start), self.size)


@dataclass(frozen=True)
class Unit:
    """A unit: its block of rows, its group, the panels [first, last) of the group. ``fresh``:
    whether the unit before was of another block or group, so that nothing is known of the rows."""

    block: Int
    group: Int
    first: Int
    last: Int
    fresh: ir.Value


@dataclass(frozen=True)
class Block:
    """The units of one block of rows, as one piece of work: the panels [first, last)."""

    index: Int
    first: Int
    last: Int


@dataclass(frozen=True)
class Units:
    """How units are numbered: block of rows by block of rows, in these group by group, in these
    ``width`` of the ``panels`` at a time."""

    panels: int
    width: int
    groups: int = 1

    @property
    def across(self) -> int:
        """Units of a block of rows."""
        return self.groups * -(-self.panels // self.width)

    @contextmanager
    def each(self, code: Code, begin: Int, end: Int) -> Iterator[Unit]:
        """A loop over the units [begin, end)."""
        with code.loop(begin, end, 1, [i64(-1)]) as unit:
            block = key = code.div(unit.index, self.across)
            part = code.rem(unit.index, self.across)
            group: Int = 0
            if self.groups > 1:
                group = code.div(part, self.across // self.groups)
                part = code.rem(part, self.across // self.groups)
                key = code.add(code.mul(block, self.groups), group)
            first = code.mul(part, self.width)
            last = code.min(code.add(first, self.width), self.panels)
            yield Unit(block, group, first, last, code.cmp("!=", key, unit.carried[0]))
            unit.next = [i64(key)]

    @contextmanager
    def blocks(self, code: Code, begin: Int, end: Int) -> Iterator[Block]:
        """A loop over the blocks of rows that have units in [begin, end); of one group."""
        first = code.div(begin, self.across)
        with code.loop(first, code.ceildiv(end, self.across)) as block:
            base = code.mul(block.index, self.across)
            yield Block(
                block.index,
                *self.span(
                    code,
                    code.max(code.sub(begin, base), 0),
                    code.min(code.sub(end, base), self.across),
                ),
            )

    def span(self, code: Code, begin: Int, end: Int) -> tuple[Int, Int]:
        """The panels of the units [begin, end) of one block."""
        return code.mul(begin, self.width), code.min(code.mul(end, self.width), self.panels)

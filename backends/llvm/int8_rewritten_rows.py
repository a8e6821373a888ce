"""Rows of activations that are rewritten before they become 8-bit codes, put into the block of
int8_block: X A as compiler.formats.rewritten says, or codes between the ends of a row.

Every step is that of compiler.formats in f32, in the same order, so codes have the same bits on all
targets. Rotations add elements of 64 columns at distances 1, 2, .., 32: within vectors by shuffles,
then among vectors. The rotated row waits in scratch, as it is read twice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial, reduce

from llvmlite import ir

from tilewright.backends.llvm import formats
from tilewright.backends.llvm.amx import ROWS
from tilewright.backends.llvm.builder import F32, I32, Code, Int, zeros
from tilewright.backends.llvm.int8 import STEP, Dots
from tilewright.backends.llvm.int8_block import line, steps
from tilewright.backends.llvm.int8_rows import (
    Element,
    Prepare,
    Rows,
    greatest,
    keep_scale,
    round_rows,
)
from tilewright.backends.llvm.rounding import bits_of

KINDS = ("", "range", "smooth", "rotate", "static")
"""How rows are read: as they are; between their ends; multiplied by factors of the columns; these
rotated too; or these rounded to integers with no scale of the row."""

BLOCK = 64
"""Columns that are rotated together."""

_TOP = 127.0


def room_bytes(kind: str, k: int) -> int:
    """Scratch of a kind: quotients of 16 rows, what says whether they are finite, rotated rows."""
    own = 4 * ROWS * steps(k) * STEP if kind == "rotate" else 0
    return 4 * ROWS + 4 * ROWS * STEP + own if kind else 0


@dataclass(frozen=True)
class Rewriting:
    """``kind`` of KINDS, not the first; ``factors``: f32 [K, filled up to steps] of the columns.
    ``middles``: f32 [rows] get the middles of rows. ``room``: scratch of `room_bytes`."""

    kind: str
    factors: ir.Value
    middles: ir.Value
    room: ir.Value

    def quotients(self, code: Code) -> ir.Value:
        """By what rows are multiplied at last, f32 [16]."""
        return self.room

    def finite(self, code: Code) -> ir.Value:
        """f32 [16][STEP]: zeros, NaN for a row that is not finite."""
        return code.at(self.room, ROWS)

    def rotated(self, code: Code) -> ir.Value:
        """Rotated rows."""
        return code.at(self.finite(code), ROWS * STEP)


def emit_rewritten_rows(
    code: Code,
    d: Dots,
    a: Rows,
    rows: Int,
    out: ir.Value,
    scales: ir.Value,
    how: Rewriting,
    signed: ir.Value | None = None,
    prepare: Prepare | None = None,
) -> None:
    """As `int8_rows.emit_rows`."""
    quotients = how.quotients(code)
    with code.loop(0, rows, ROWS) as tile:
        size = code.min(code.sub(rows, tile.index), ROWS)
        own = Rows(a.at(code, tile.index), a.stride, a.k, a.stored)
        own = prepare(code, own, size) if prepare is not None else own
        part = _Part(code, own, how, code.at(how.middles, tile.index))
        measured = part
        if how.kind == "rotate":
            with code.loop(0, size) as row:
                part.rotate(row.index)
            measured = _Part(code, Rows(how.rotated(code), a.k, a.k), how, part.middles)
        target = line(code, d, out, tile.index, a.k)
        found = code.at(scales, tile.index)
        if how.kind == "static":
            part.fixed(d, size, target, found, signed)
        else:
            with code.loop(0, size) as row:
                most = measured.half(row.index) if how.kind == "range" else measured.most(row.index)
                keep_scale(code, most, code.at(found, row.index), code.at(quotients, row.index))
            round_rows(code, d, a.k, size, target, measured.quotient, signed)


@dataclass(frozen=True)
class _Part:
    """Up to 16 rows."""

    code: Code
    a: Rows
    how: Rewriting
    middles: ir.Value

    @property
    def lanes(self) -> int:
        return self.code.target.lanes_f32

    def loaded(self, source: ir.Value, column: Int, mask: ir.Value | None) -> ir.Value:
        place = self.code.at(source, column, formats.ELEMENT[self.a.stored])
        found = bits_of(self.code, place, self.lanes, mask, self.a.stored)
        return self.code.b.bitcast(found, self.code.vector(self.lanes))

    def migrated(self, source: ir.Value, column: Int, mask: ir.Value | None) -> ir.Value:
        factor = self.code.vload(self.code.at(self.how.factors, column), self.lanes)
        return self.code.b.fmul(self.loaded(source, column, mask), factor)

    def element(self, row: Int, bits: bool = False) -> Element:
        """Elements of a row as they are rounded, but for the factor of the row."""
        source = self.a.at(self.code, row)
        read = self.migrated if self.how.kind in ("smooth", "static") else self.loaded
        kind = ir.VectorType(I32, self.lanes)

        def found(column: Int, mask: ir.Value | None) -> ir.Value:
            value = read(source, column, mask)
            return self.code.b.bitcast(value, kind) if bits else value

        return found

    def quotient(self, row: Int) -> Element:
        """Elements of a row to be rounded to codes."""
        code, read = self.code, self.element(row)
        own = code.load(code.at(self.how.quotients(code), row))
        factor = code.splat(own, self.lanes)
        if self.how.kind != "range":
            return lambda column, mask: code.b.fmul(read(column, mask), factor)
        middle = code.splat(code.load(code.at(self.middles, row)), self.lanes)
        # Behind the last column this is not zero, but weights are.
        return lambda column, mask: code.b.fmul(code.b.fsub(read(column, mask), middle), factor)

    def fixed(
        self, d: Dots, rows: Int, out: ir.Value, scales: ir.Value, signed: ir.Value | None
    ) -> None:
        """Round rows to integers; scales are 1, NaN for a row that is not finite."""
        code = self.code
        odd, each = self.how.finite(code), range(0, STEP, self.lanes)
        top, none = (code.splat(x, self.lanes) for x in (_TOP, 0.0))
        with code.loop(0, rows) as row:
            for at in each:
                code.vstore(none, code.at(odd, code.add(code.mul(row.index, STEP), at)))

        def read(row: Int) -> Element:
            element = self.element(row)

            def found(column: Int, mask: ir.Value | None) -> ir.Value:
                value = element(column, mask)
                # x 0 is NaN for what is not finite.
                place = code.at(odd, code.add(code.mul(row, STEP), code.rem(column, STEP)))
                code.vstore(code.fma(value, none, code.vload(place, self.lanes)), place)
                # Conversion of more than i32 holds gives the least integer.
                return code.b.select(code.b.fcmp_ordered("<", value, top), value, top)

            return found

        round_rows(code, d, self.a.k, rows, out, read, signed)
        with code.loop(0, rows) as row:
            parts = [
                code.vload(code.at(odd, code.add(code.mul(row.index, STEP), at)), self.lanes)
                for at in each
            ]
            total = _folded(code, reduce(code.b.fadd, parts), code.b.fadd)
            code.store(code.b.fadd(total, ir.Constant(F32, 1.0)), code.at(scales, row.index))

    def most(self, row: Int) -> ir.Value:
        """Greatest magnitude of a row, NaN if it is not finite."""
        return greatest(self.code, self.a.k, self.element(row, bits=True))

    def half(self, row: Int) -> ir.Value:
        """Half of the range of a row, NaN if it is not finite; its middle is kept."""
        code, read, k = self.code, self.element(row), self.a.k
        none = zeros(code.vector(self.lanes))
        low, high = (code.splat(x, self.lanes) for x in (float("inf"), float("-inf")))

        def widened(
            now: Sequence[ir.Value], column: Int, mask: ir.Value | None = None
        ) -> tuple[ir.Value, ir.Value, ir.Value]:
            value = read(column, mask)
            least, most = value, value
            if mask is not None:
                least, most = (code.b.select(mask, value, end) for end in (low, high))
            odd = code.fma(value, none, now[2])
            return _less(code, least, now[0]), _more(code, most, now[1]), odd

        chains = STEP // self.lanes
        whole = k // STEP * STEP
        with code.loop(0, whole, STEP, [low, high, none] * chains) as step:
            step.next = [
                part
                for i in range(chains)
                for part in widened(
                    step.carried[3 * i : 3 * i + 3], code.add(step.index, i * self.lanes)
                )
            ]
        ends = [tuple(step.carried[3 * i : 3 * i + 3]) for i in range(chains)]
        for i, column in enumerate(range(whole, k, self.lanes)):
            mask = code.first_lanes(k - column, self.lanes) if k - column < self.lanes else None
            ends[i] = widened(ends[i], column, mask)
        ways = (_less, _more, lambda code, x, y: code.b.fadd(x, y))
        least, most, odd = (
            _folded(code, reduce(partial(way, code), parts), partial(way, code))
            for way, parts in zip(ways, zip(*ends, strict=True), strict=True)
        )
        one = ir.Constant(F32, 0.5)
        least, most = code.b.fmul(least, one), code.b.fmul(most, one)
        code.store(code.b.fadd(most, least), code.at(self.middles, row))
        return code.b.fadd(code.b.fsub(most, least), odd)

    def rotate(self, row: Int) -> None:
        """One row, multiplied by factors and rotated, to scratch."""
        code, lanes = self.code, self.lanes
        source = self.a.at(code, row)
        out = code.at(self.how.rotated(code), code.mul(row, self.a.k))
        with code.loop(0, self.a.k, BLOCK) as block:
            places = [code.add(block.index, i) for i in range(0, BLOCK, lanes)]
            values = [self.migrated(source, place, None) for place in places]
            distance = 1
            while distance < lanes:
                values = [_turned(code, value, distance) for value in values]
                distance *= 2
            step = 1
            while step < len(values):
                values = [
                    code.b.fsub(values[i - step], value)
                    if i & step
                    else code.b.fadd(value, values[i + step])
                    for i, value in enumerate(values)
                ]
                step *= 2
            for place, value in zip(places, values, strict=True):
                code.vstore(value, code.at(out, place))


def _turned(code: Code, value: ir.Value, distance: int) -> ir.Value:
    """Sums of lanes ``distance`` apart in the lower ones, differences in the upper ones."""
    lanes = value.type.count
    picks = ir.Constant(ir.VectorType(I32, lanes), [i ^ distance for i in range(lanes)])
    other = code.b.shuffle_vector(value, value, picks)
    signs = ir.Constant(value.type, [-1.0 if i & distance else 1.0 for i in range(lanes)])
    return code.fma(value, signs, other)


def _less(code: Code, x: ir.Value, y: ir.Value) -> ir.Value:
    return code.b.select(code.b.fcmp_ordered("<", x, y), x, y)


def _more(code: Code, x: ir.Value, y: ir.Value) -> ir.Value:
    return code.b.select(code.b.fcmp_ordered(">", x, y), x, y)


def _folded(
    code: Code, values: ir.Value, both: Callable[[ir.Value, ir.Value], ir.Value]
) -> ir.Value:
    """All lanes of a vector as one value, halves put together."""
    lanes = values.type.count
    while lanes > 1:
        lanes //= 2
        parts = []
        for first in (0, lanes):
            picks = ir.Constant(ir.VectorType(I32, lanes), list(range(first, first + lanes)))
            parts.append(code.b.shuffle_vector(values, values, picks))
        values = both(*parts)
    return code.b.extract_element(values, ir.Constant(I32, 0))

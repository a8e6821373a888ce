"""Transpose, slices, padding and concatenation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from llvmlite import ir

from tilewright.backends.llvm.builder import Int, i64
from tilewright.backends.llvm.irregular.kernel import (
    IrregularKernel,
    LoweredKernel,
    Parameters,
    makes,
)
from tilewright.backends.llvm.irregular.nest import Array, Extent, Nest
from tilewright.compiler.ir.dims import Dim, product
from tilewright.compiler.ir.ops import shape
from tilewright.compiler.ir.types import DType


@dataclass(frozen=True)
class Transpose(IrregularKernel):
    """`out[i_perm..] = x[i..]`; a unit is a row of out."""

    family: ClassVar[str] = "transpose"
    dtype: DType
    shape: tuple[Extent, ...]
    perm: tuple[int, ...]

    def body(self, k: Nest) -> None:
        x, out = k.arrays(self.dtype, self.dtype)
        have = k.sizes(self.shape)
        sizes = [have[p] for p in self.perm]
        with k.units() as u, k.loop(sizes[-1]) as j:
            at = [*k.split(u, sizes[:-1]), j]
            source = [at[self.perm.index(axis)] for axis in range(len(have))]
            out.put(k.add(k.mul(u, sizes[-1]), j), x.raw(k.flat(source, have)))


@dataclass(frozen=True)
class Slice(IrregularKernel):
    """`out[i..] = x[start + i * step..]`; a unit is a row of out.

    starts and steps are extents, or None: read (and clamped) from two i64 operands.
    """

    family: ClassVar[str] = "slice"
    dtype: DType
    x: tuple[Extent, ...]
    out: tuple[Extent, ...]
    starts: tuple[Extent, ...] | None
    steps: tuple[int, ...] | None

    def body(self, k: Nest) -> None:
        sizes, have = k.sizes(self.out), k.sizes(self.x)
        starts: list[Int]
        steps: list[Int]
        if self.starts is None or self.steps is None:
            x, first, step, out = k.arrays(self.dtype, DType.I64, DType.I64, self.dtype)
            steps = [step.get(i) for i in range(len(have))]
            starts = []
            for i, (size, length) in enumerate(zip(have, sizes, strict=True)):
                reach = k.mul(k.sub(k.max(length, 1), 1), steps[i])
                low = k.max(0, k.sub(0, reach))
                high = k.sub(k.sub(size, 1), k.max(0, reach))
                some = k.b.icmp_signed(">", k.end, k.begin)
                k.fail_if(k.b.and_(some, k.b.and_(k.cmp(">", length, 0), k.cmp(">", low, high))))
                starts.append(k.min(k.max(first.get(i), low), k.max(high, low)))
        else:
            x, out = k.arrays(self.dtype, self.dtype)
            starts, steps = k.sizes(self.starts), list(self.steps)
        with k.units() as u:
            outer = k.split(u, sizes[:-1])
            moved = [
                k.add(a, k.mul(i, s))
                for a, i, s in zip(starts[:-1], outer, steps[:-1], strict=True)
            ]
            base = k.mul(k.flat(moved, have[:-1]), have[-1])
            first_element, to = k.add(base, starts[-1]), k.mul(u, sizes[-1])
            if isinstance(steps[-1], int) and steps[-1] == 1:
                out.copy(to, x, first_element, sizes[-1])
            else:
                with k.loop(sizes[-1]) as j:
                    out.put(k.add(to, j), x.raw(k.add(first_element, k.mul(j, steps[-1]))))


@dataclass(frozen=True)
class Pad(IrregularKernel):
    """`low` and `high` elements around x (negative: removed); a unit is a row of out.

    With a border mode (not `constant`) an axis that the removal empties is a data error.
    """

    family: ClassVar[str] = "pad"
    dtype: DType
    x: tuple[Extent, ...]
    low: tuple[Extent, ...]
    high: tuple[Extent, ...]
    mode: str
    filled: bool

    def body(self, k: Nest) -> None:
        have, lows, highs = k.sizes(self.x), k.sizes(self.low), k.sizes(self.high)
        if self.filled:
            x, value, out = k.arrays(self.dtype, self.dtype, self.dtype)
            filler = value.raw(0)
        else:
            x, out = k.arrays(self.dtype, self.dtype)
            filler = ir.Constant(x.storage, 0)
        cut = [k.max(k.sub(0, n), 0) for n in lows]
        before = [k.max(n, 0) for n in lows]
        left = [
            k.sub(k.sub(size, c), k.max(k.sub(0, h), 0))
            for size, c, h in zip(have, cut, highs, strict=True)
        ]
        sizes = [k.add(k.add(d, lo), hi) for d, lo, hi in zip(have, lows, highs, strict=True)]
        with k.units() as u:
            outer, to = k.split(u, sizes[:-1]), k.mul(u, sizes[-1])
            if self.mode == "constant":
                self._row(k, x, out, filler, outer, to, have, cut, before, left, sizes[-1])
            else:
                for n in left:
                    k.fail_if(k.b.and_(k.cmp("<=", n, 0), k.cmp(">", sizes[-1], 0)))
                with k.loop(sizes[-1]) as j:
                    places = [
                        k.add(c, self._border(k, k.sub(i, b), n))
                        for i, c, b, n in zip([*outer, j], cut, before, left, strict=True)
                    ]
                    out.put(k.add(to, j), x.raw(k.flat(places, have)))

    def _border(self, k: Nest, i: Int, size: Int) -> Int:
        """The position inside 0..size that position i (any integer) repeats."""
        if self.mode == "edge":
            return k.max(0, k.min(i, k.sub(size, 1)))
        period = size if self.mode == "wrap" else k.max(k.mul(k.sub(size, 1), 2), 1)
        rest = k.b.srem(i64(i), i64(period))
        folded = k.c.select(k.cmp("<", rest, 0), k.b.add(rest, i64(period)), rest)
        return folded if self.mode == "wrap" else k.min(folded, k.sub(period, folded))

    def _row(
        self, k: Nest, x: Array, out: Array, filler: ir.Value, outer: list[Int], to: Int,
        have: list[Int], cut: list[Int], before: list[Int], left: list[Int], length: Int,
    ) -> None:  # fmt: skip
        places: list[Int] = []
        inside: ir.Value = ir.Constant(ir.IntType(1), 1)
        for i, c, b, n in zip(outer, cut[:-1], before[:-1], left[:-1], strict=True):
            at = k.sub(i, b)
            inside = k.b.and_(inside, k.b.and_(k.cmp(">=", at, 0), k.cmp("<", at, n)))
            places.append(k.add(at, c))
        start = k.min(before[-1], length)
        copied = k.max(0, k.min(left[-1], k.sub(length, start)))
        with k.c.either(inside) as (yes, no):
            with yes:
                source = k.add(k.mul(k.flat(places, have[:-1]), have[-1]), cut[-1])
                with k.loop(start) as j:
                    out.put(k.add(to, j), filler)
                out.copy(k.add(to, start), x, source, i64(copied))
                with k.loop(length, k.add(start, copied)) as j:
                    out.put(k.add(to, j), filler)
            with no, k.loop(length) as j:
                out.put(k.add(to, j), filler)


@dataclass(frozen=True)
class Concat(IrregularKernel):
    """Copies runs of `inner[p]` elements; a unit is one run: part u % parts of row u / parts."""

    family: ClassVar[str] = "concat"
    dtype: DType
    inner: tuple[Extent, ...]

    def body(self, k: Nest) -> None:
        count = len(self.inner)
        *parts, out = k.arrays(*[self.dtype] * (count + 1))
        runs = k.sizes(self.inner)
        total: Int = 0
        for run in runs:
            total = k.add(total, run)
        with k.units() as u:
            row, which = k.div(u, count), k.rem(u, count)
            to = k.mul(row, total)
            for index, (part, run) in enumerate(zip(parts, runs, strict=True)):
                with k.when(k.cmp("==", which, index)):
                    out.copy(to, part, k.mul(row, run), run)
                to = k.add(to, run)


def _rows(dims: tuple[Dim, ...]) -> Dim:
    return product(dims[:-1])


@makes(shape.Transpose)
def _transpose(op: shape.Transpose, p: Parameters) -> LoweredKernel:
    dims, perm = op.x.shape or (1,), op.perm or (0,)
    spec = Transpose(op.x.dtype, p.shape(dims), perm)
    return LoweredKernel(spec, (op.x,), p.dims, _rows(op.out.shape))


@makes(shape.Slice)
def _slice(op: shape.Slice, p: Parameters) -> LoweredKernel:
    have, out = op.x.shape or (1,), op.shape or (1,)
    starts, steps = op.starts or (0,), op.steps or (1,)
    spec = Slice(op.x.dtype, p.shape(have), p.shape(out), p.shape(starts), steps)
    return LoweredKernel(spec, (op.x,), p.dims, _rows(out))


@makes(shape.DynamicSlice)
def _dynamic_slice(op: shape.DynamicSlice, p: Parameters) -> LoweredKernel:
    if not op.shape:
        spec = Slice(op.x.dtype, (1,), (1,), (0,), (1,))
        return LoweredKernel(spec, (op.x,), p.dims, 1)
    spec = Slice(op.x.dtype, p.shape(op.x.shape), p.shape(op.shape), None, None)
    operands = (op.x, op.starts, op.steps)
    error = "slice: the elements do not fit in the axis"
    return LoweredKernel(spec, operands, p.dims, _rows(op.shape), error=error)


@makes(shape.Pad)
def _pad(op: shape.Pad, p: Parameters) -> LoweredKernel:
    dims, low, high = op.x.shape or (1,), op.low or (0,), op.high or (0,)
    given = op.value is not None and op.mode == "constant"
    spec = Pad(op.x.dtype, p.shape(dims), p.shape(low), p.shape(high), op.mode, given)
    operands = (op.x, op.value) if given and op.value is not None else (op.x,)
    error = None if op.mode == "constant" else "pad: an axis has no element to repeat"
    return LoweredKernel(spec, operands, p.dims, _rows(op.out.shape), error=error)


@makes(shape.Concat)
def _concat(op: shape.Concat, p: Parameters) -> LoweredKernel:
    runs = tuple(p(product(part.shape[op.axis :])) for part in op.parts)
    spec = Concat(op.out.dtype, runs)
    units = product(op.out.shape[: op.axis]) * len(op.parts)
    return LoweredKernel(spec, op.parts, p.dims, units)

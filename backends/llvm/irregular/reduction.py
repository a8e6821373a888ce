"""Reductions over any axes, and running sums and products."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from llvmlite import ir

from tilewright.backends.llvm.builder import Int, i64
from tilewright.backends.llvm.irregular.integer import INTEGER
from tilewright.backends.llvm.irregular.kernel import (
    IrregularKernel,
    LoweredKernel,
    Parameters,
    makes,
)
from tilewright.backends.llvm.irregular.nest import Extent, Nest
from tilewright.backends.llvm.irregular.numeric import compute_type, convert
from tilewright.backends.llvm.irregular.scalar import float_max, float_min
from tilewright.compiler.ir.dims import product
from tilewright.compiler.ir.ops import reduce
from tilewright.compiler.ir.types import DType

_EMPTY = {"sum": 0, "mean": 0, "prod": 1, "any": 0, "all": 1}


def wide_type(dtype: DType) -> DType:
    """The type that sums and products of `dtype` accumulate in."""
    if dtype.is_float:
        return DType.F64
    if dtype == DType.BOOL:
        return dtype
    return DType.U64 if dtype.kind == "uint" else DType.I64


def extreme(dtype: DType, kind: str) -> float | int:
    """What the maximum (minimum) of nothing is: the least (greatest) value of the type."""
    if dtype.is_float:
        return float("-inf") if kind == "max" else float("inf")
    if kind == "max":
        return -(1 << (dtype.bits - 1)) if dtype.kind == "int" else 0
    return (1 << (dtype.bits - (dtype.kind == "int"))) - 1


def combine(k: Nest, kind: str, dtype: DType, a: ir.Value, b: ir.Value) -> ir.Value:
    """One step of a reduction in the accumulator's type."""
    if dtype == DType.BOOL:
        return (k.m.or_ if kind == "any" else k.m.and_)(a, b)
    if kind in ("max", "min"):
        if dtype.is_float:
            return (float_max if kind == "max" else float_min)(k, a, b)
        return INTEGER[kind](k, dtype, a, b)
    if dtype.is_float:
        return (k.m.mul if kind == "prod" else k.m.add)(a, b)
    return (k.m.imul if kind == "prod" else k.m.iadd)(a, b)


@dataclass(frozen=True)
class Reduce(IrregularKernel):
    """A unit is one result: the reduction over `axes` of x at fixed other coordinates."""

    family: ClassVar[str] = "reduce"
    dtype: DType
    kind: str
    shape: tuple[Extent, ...]
    axes: tuple[int, ...]

    def body(self, k: Nest) -> None:
        x, out = k.arrays(self.dtype, self.dtype)
        sizes = k.sizes(self.shape)
        kept = [i for i in range(len(sizes)) if i not in self.axes]
        order = self.kind in ("max", "min")
        wide = self.dtype if order else wide_type(self.dtype)
        start = extreme(self.dtype, self.kind) if order else _EMPTY[self.kind]
        first = ir.Constant(compute_type(wide), start)
        with k.units() as u:
            outer = dict(zip(kept, k.split(u, [sizes[i] for i in kept]), strict=True))
            total = k.cell(first)
            with k.nest([sizes[i] for i in self.axes]) as inner:
                at = outer | dict(zip(self.axes, inner, strict=True))
                value = x.get(k.flat([at[i] for i in range(len(sizes))], sizes))
                value = convert(k.m, value, self.dtype, wide, False, k.half)
                total.set(combine(k, self.kind, wide, total.get(), value))
            result = total.get()
            if self.kind == "mean":
                result = self._mean(k, wide, result, k.product([sizes[i] for i in self.axes]))
            out.set(u, result if order else _settled(k, result, wide, self.dtype))

    def _mean(self, k: Nest, wide: DType, total: ir.Value, count: Int) -> ir.Value:
        if wide.is_float:
            return k.m.div(total, k.b.sitofp(i64(count), ir.DoubleType()))
        return INTEGER["div"](k, wide, total, i64(count))


def _settled(k: Nest, value: ir.Value, wide: DType, dtype: DType) -> ir.Value:
    """An accumulator rounded to f32 first for the narrow floats, then to the element type."""
    if dtype.is_float and dtype != DType.F64:
        return k.b.fptrunc(value, ir.FloatType())
    return convert(k.m, value, wide, dtype, False, k.half)


@dataclass(frozen=True)
class Cumulate(IrregularKernel):
    """Running sum or product; a unit is one line along the axis, elements `inner` apart."""

    family: ClassVar[str] = "cumulate"
    dtype: DType
    kind: str
    length: Extent
    inner: Extent
    exclusive: bool
    reverse: bool

    def body(self, k: Nest) -> None:
        x, out = k.arrays(self.dtype, self.dtype)
        length, inner = k.size(self.length), k.size(self.inner)
        wide = wide_type(self.dtype)
        first = ir.Constant(compute_type(wide), _EMPTY[self.kind])
        with k.units() as u:
            line = k.add(k.mul(k.mul(k.div(u, inner), length), inner), k.rem(u, inner))
            total = k.cell(first)
            with k.loop(length) as i:
                step = k.sub(k.sub(length, 1), i) if self.reverse else i
                place = k.add(line, k.mul(step, inner))
                value = convert(k.m, x.get(place), self.dtype, wide, False, k.half)
                before = total.get()
                after = combine(k, self.kind, wide, before, value)
                total.set(after)
                chosen = before if self.exclusive else after
                out.set(place, _settled(k, chosen, wide, self.dtype))


@makes(reduce.Reduce)
def _reduce(op: reduce.Reduce, p: Parameters) -> LoweredKernel:
    axes = tuple(sorted(op.axes))
    spec = Reduce(op.x.dtype, op.kind, p.shape(op.x.shape), axes)
    return LoweredKernel(spec, (op.x,), p.dims, op.out.type.elements)


@makes(reduce.Cumulate)
def _cumulate(op: reduce.Cumulate, p: Parameters) -> LoweredKernel:
    dims, axis = op.x.shape, op.axis
    inner = product(dims[axis + 1 :])
    spec = Cumulate(op.x.dtype, op.kind, p(dims[axis]), p(inner), op.exclusive, op.reverse)
    return LoweredKernel(spec, (op.x,), p.dims, product(dims[:axis]) * inner)

"""Argmax and top-k: a total order in which NaN is extreme and ties go by position."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from llvmlite import ir

from tilewright.backends.llvm.builder import Int, i64
from tilewright.backends.llvm.irregular.heap import build, sift, unwind
from tilewright.backends.llvm.irregular.kernel import (
    IrregularKernel,
    LoweredKernel,
    Parameters,
    makes,
)
from tilewright.backends.llvm.irregular.nest import Extent, Nest
from tilewright.compiler.ir.dims import product
from tilewright.compiler.ir.ops import reduce
from tilewright.compiler.ir.types import DType


def above(k: Nest, dtype: DType, a: ir.Value, b: ir.Value) -> ir.Value:
    """a > b; NaN is above every number and equal to itself."""
    if not dtype.is_float:
        return k.m.icmp(">", a, b, dtype.kind == "int")
    nan = k.b.and_(k.b.fcmp_unordered("uno", a, a), k.b.fcmp_ordered("ord", b, b))
    return k.b.or_(k.b.fcmp_ordered(">", a, b), nan)


@dataclass(frozen=True)
class ArgReduce(IrregularKernel):
    """A unit is one line along the axis, elements `inner` apart."""

    family: ClassVar[str] = "arg_reduce"
    dtype: DType
    kind: str
    length: Extent
    inner: Extent
    last: bool

    def body(self, k: Nest) -> None:
        x, out = k.arrays(self.dtype, DType.I64)
        length, inner = k.size(self.length), k.size(self.inner)
        with k.units() as u:
            line = k.add(k.mul(k.mul(k.div(u, inner), length), inner), k.rem(u, inner))
            found = k.cell(i64(0))
            with k.when(k.cmp(">", length, 0)):
                best = k.cell(x.get(line))
                with k.loop(length, 1) as i:
                    value = x.get(k.add(line, k.mul(i, inner)))
                    better = self._better(k, value, best.get())
                    found.set(k.b.select(better, i, found.get()))
                    best.set(k.b.select(better, value, best.get()))
            out.set(u, found.get())

    def _better(self, k: Nest, new: ir.Value, old: ir.Value) -> ir.Value:
        """NaN is best in both directions."""
        if not self.dtype.is_float:
            a, b = (new, old) if self.kind == "max" else (old, new)
            better = above(k, self.dtype, a, b)
            return k.b.or_(better, k.m.icmp("==", new, old)) if self.last else better
        op = (">" if self.kind == "max" else "<") + ("=" if self.last else "")
        nan = k.b.fcmp_unordered("uno", new, new)
        if not self.last:
            return k.b.and_(
                k.b.fcmp_ordered("ord", old, old), k.b.or_(nan, k.b.fcmp_ordered(op, new, old))
            )
        return k.b.or_(nan, k.b.fcmp_ordered(op, new, old))


@dataclass(frozen=True)
class TopK(IrregularKernel):
    """A heap of the k best positions, then its extraction from the worst on.

    A unit is one line along the axis. Scratch: k i64 (the heap, whose top is the worst of it).
    """

    family: ClassVar[str] = "top_k"
    dtype: DType
    length: Extent
    k: Extent
    inner: Extent
    largest: bool

    def body(self, k: Nest) -> None:
        x, values, indices = k.arrays(self.dtype, self.dtype, DType.I64)
        length, count, inner = k.sizes((self.length, self.k, self.inner))
        heap = k.scratch_array(DType.I64)
        with k.units() as u:
            k.fail_if(k.cmp(">", count, length))
            row, column = k.div(u, inner), k.rem(u, inner)
            line = k.add(k.mul(k.mul(row, length), inner), column)
            to = k.add(k.mul(k.mul(row, count), inner), column)

            def before(i: Int, j: Int) -> ir.Value:
                a, b = x.get(k.add(line, k.mul(i, inner))), x.get(k.add(line, k.mul(j, inner)))
                if not self.largest:
                    a, b = b, a
                wins, loses = above(k, self.dtype, a, b), above(k, self.dtype, b, a)
                return k.b.or_(wins, k.b.and_(k.b.not_(loses), k.cmp("<", i, j)))

            with k.loop(count) as i:
                heap.set(i, i)
            build(k, heap, before, count)
            # With k = 0 there is no worst entry to compare with.
            end = k.c.select(k.cmp(">", count, 0), length, 0)
            with k.loop(end, count) as i, k.when(before(i, heap.get(0))):
                heap.set(0, i)
                sift(k, heap, before, 0, count)
            with unwind(k, heap, before, count) as (left, worst):
                place = k.add(to, k.mul(left, inner))
                indices.set(place, worst)
                values.put(place, x.raw(k.add(line, k.mul(worst, inner))))


@makes(reduce.ArgReduce)
def _arg_reduce(op: reduce.ArgReduce, p: Parameters) -> LoweredKernel:
    dims, axis = op.x.shape, op.axis
    inner = product(dims[axis + 1 :])
    spec = ArgReduce(op.x.dtype, op.kind, p(dims[axis]), p(inner), op.last)
    return LoweredKernel(spec, (op.x,), p.dims, product(dims[:axis]) * inner)


@makes(reduce.TopK)
def _top_k(op: reduce.TopK, p: Parameters) -> LoweredKernel:
    dims, axis = op.x.shape, op.axis
    inner = product(dims[axis + 1 :])
    spec = TopK(op.x.dtype, p(dims[axis]), p(op.k), p(inner), op.largest)
    units = product(dims[:axis]) * inner
    error = "top_k: k is larger than the axis"
    return LoweredKernel(spec, (op.x,), p.dims, units, op.k * 8, error=error)

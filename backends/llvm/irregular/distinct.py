"""The custom kind `unique`: distinct slices along an axis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from llvmlite import ir

from tilewright.backends.llvm.builder import Int, i64
from tilewright.backends.llvm.irregular.heap import sort
from tilewright.backends.llvm.irregular.kernel import (
    IrregularKernel,
    LoweredKernel,
    Parameters,
    makes_kind,
)
from tilewright.backends.llvm.irregular.nest import Array, Extent, Nest
from tilewright.backends.llvm.irregular.selection import above
from tilewright.compiler.ir.dims import product
from tilewright.compiler.ir.ops.control import Custom
from tilewright.compiler.ir.types import DType


@dataclass(frozen=True)
class Unique(IrregularKernel):
    """x: [outer, size, inner]; sorts the slices, numbers the groups, copies the first of each.

    One unit. Scratch: three times `size` i64 (order, first position and number of every group).
    Extra argument: the count.
    """

    family: ClassVar[str] = "unique"
    dtype: DType
    outer: Extent
    size: Extent
    inner: Extent
    ordered: bool

    def body(self, k: Nest) -> None:
        i64s = [DType.I64] * 4
        x, values, indices, inverse, counts, total = k.arrays(self.dtype, self.dtype, *i64s)
        outer, size, inner = k.sizes((self.outer, self.size, self.inner))
        order = k.scratch_array(DType.I64)
        first = k.scratch_array(DType.I64, k.mul(size, 8))
        number = k.scratch_array(DType.I64, k.mul(size, 16))

        def before(i: Int, j: Int) -> ir.Value:
            sign = self._compare(k, x, i, j)
            lower = k.b.and_(k.cmp("==", sign, 0), k.cmp("<", i, j))
            return k.b.or_(k.cmp("<", sign, 0), lower)

        with k.units():
            with k.loop(size) as i:
                order.set(i, i)
            sort(k, order, before, size)
            group = k.cell(i64(-1))
            with k.loop(size) as i:
                this, last = order.get(i), order.get(k.max(k.sub(i, 1), 0))
                new = k.b.or_(k.cmp("==", i, 0), k.cmp("!=", self._compare(k, x, last, this), 0))
                with k.when(new):
                    group.set(k.b.add(group.get(), i64(1)))
                    first.set(group.get(), this)  # equal slices are in order of position
                inverse.set(this, group.get())
            count = k.b.add(group.get(), i64(1))
            total.set(0, count)
            following = k.cell(i64(0))
            with k.loop(size) as i:
                found = inverse.get(i)
                with k.when(k.cmp("==", first.get(found), i)):
                    name = found if self.ordered else following.get()
                    following.set(k.b.add(following.get(), i64(1)))
                    number.set(found, name)
                    indices.set(name, i)
                    counts.set(name, i64(0))
                    with k.loop(outer) as o:
                        to, source = k.add(k.mul(o, count), name), k.add(k.mul(o, size), i)
                        values.copy(k.mul(to, inner), x, k.mul(source, inner), inner)
                name = number.get(found)
                inverse.set(i, name)
                counts.set(name, k.b.add(counts.get(name), i64(1)))

    def _compare(self, k: Nest, x: Array, i: Int, j: Int) -> ir.Value:
        """-1, 0 or 1 (i64): the order of slices i and j, by their first different element."""
        outer, size, inner = k.sizes((self.outer, self.size, self.inner))
        sign = k.cell(i64(0))
        with k.loop(outer) as o, k.loop(inner) as c:
            a = x.get(k.add(k.mul(k.add(k.mul(o, size), i), inner), c))
            b = x.get(k.add(k.mul(k.add(k.mul(o, size), j), inner), c))
            more, less = above(k, self.dtype, a, b), above(k, self.dtype, b, a)
            here = k.c.select(more, 1, k.c.select(less, -1, 0))
            sign.set(k.c.select(k.cmp("==", sign.get(), 0), here, sign.get()))
        return sign.get()


@makes_kind("unique")
def _unique(op: Custom, p: Parameters) -> LoweredKernel:
    (x,), options = op.inputs, dict(op.params)
    axis = int(options["axis"])  # type: ignore[arg-type]
    outer, inner = product(x.shape[:axis]), product(x.shape[axis + 1 :])
    size = x.shape[axis]
    spec = Unique(x.dtype, p(outer), p(size), p(inner), bool(options["sorted"]))
    count = op.types[1].shape[0]
    return LoweredKernel(spec, (x,), p.dims, 1, size * 24, counts=(count,))

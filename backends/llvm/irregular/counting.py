"""Results whose size the data decide: positions of nonzero elements, and compression."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from llvmlite import ir

from tilewright.backends.llvm.builder import i64
from tilewright.backends.llvm.irregular.kernel import (
    IrregularKernel,
    LoweredKernel,
    Parameters,
    makes,
)
from tilewright.backends.llvm.irregular.nest import Array, Cell, Extent, Nest
from tilewright.backends.llvm.irregular.numeric import convert
from tilewright.compiler.ir.dims import product
from tilewright.compiler.ir.ops import control
from tilewright.compiler.ir.types import DType


def _increment(k: Nest, cell: Cell, condition: ir.Value) -> None:
    cell.set(k.b.add(cell.get(), k.b.zext(condition, ir.IntType(64))))


@dataclass(frozen=True)
class NonZero(IrregularKernel):
    """Counts, then writes the coordinates: one unit. Extra argument: the count."""

    family: ClassVar[str] = "non_zero"
    dtype: DType
    shape: tuple[Extent, ...]

    def body(self, k: Nest) -> None:
        x, out, count = k.arrays(self.dtype, DType.I64, DType.I64)
        sizes = k.sizes(self.shape)
        total = k.product(sizes)
        with k.units():
            found = k.cell(i64(0))
            with k.loop(total) as i:
                _increment(k, found, self._nonzero(k, x, i))
            number = found.get()
            count.set(0, number)
            found.set(i64(0))
            with k.loop(total) as i, k.when(self._nonzero(k, x, i)):
                place = found.get()
                for axis, coordinate in enumerate(k.split(i, sizes)):
                    out.set(k.add(k.mul(number, axis), place), i64(coordinate))
                found.set(k.b.add(place, i64(1)))

    def _nonzero(self, k: Nest, x: Array, i: ir.Value) -> ir.Value:
        return convert(k.m, x.get(i), self.dtype, DType.BOOL, False, k.half)


@dataclass(frozen=True)
class Compress(IrregularKernel):
    """Counts the chosen entries, then copies them: one unit. Extra argument: the count."""

    family: ClassVar[str] = "compress"
    dtype: DType
    outer: Extent
    size: Extent
    inner: Extent
    conditions: Extent

    def body(self, k: Nest) -> None:
        x, condition, out, count = k.arrays(self.dtype, DType.BOOL, self.dtype, DType.I64)
        outer, size, inner, given = k.sizes((self.outer, self.size, self.inner, self.conditions))
        checked = k.min(given, size)
        with k.units():
            found = k.cell(i64(0))
            with k.loop(checked) as i:
                _increment(k, found, condition.get(i))
            count.set(0, found.get())
            found.set(i64(0))
            with k.loop(outer) as a, k.loop(checked) as i, k.when(condition.get(i)):
                row = found.get()
                source = k.add(k.mul(a, size), i)
                out.copy(k.mul(row, inner), x, k.mul(source, inner), inner)
                found.set(k.b.add(row, i64(1)))


@makes(control.NonZero)
def _non_zero(op: control.NonZero, p: Parameters) -> LoweredKernel:
    spec = NonZero(op.x.dtype, p.shape(op.x.shape))
    return LoweredKernel(spec, (op.x,), p.dims, 1, counts=(op.count,))


@makes(control.Compress)
def _compress(op: control.Compress, p: Parameters) -> LoweredKernel:
    dims, axis = op.x.shape, op.axis
    outer, size, inner = product(dims[:axis]), dims[axis], product(dims[axis + 1 :])
    spec = Compress(op.x.dtype, p(outer), p(size), p(inner), p(op.condition.shape[0]))
    return LoweredKernel(spec, (op.x, op.condition), p.dims, 1, counts=(op.count,))

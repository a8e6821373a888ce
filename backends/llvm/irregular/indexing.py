"""Gathers and scatters: positions from index tensors, checked before use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from llvmlite import ir

from tilewright.backends.llvm.builder import Int
from tilewright.backends.llvm.irregular.kernel import (
    IrregularKernel,
    LoweredKernel,
    Parameters,
    makes,
)
from tilewright.backends.llvm.irregular.nest import Array, Extent, Nest
from tilewright.backends.llvm.irregular.scalar import Step, emit_step
from tilewright.compiler.ir.dims import product
from tilewright.compiler.ir.ops import shape
from tilewright.compiler.ir.types import DType

_OUT_OF_RANGE = "an index is out of range"


@dataclass(frozen=True)
class Gather(IrregularKernel):
    """`out[a, i, :] = x[a, indices[i], :]`, `inner` elements each; a unit is one (a, i)."""

    family: ClassVar[str] = "gather"
    dtype: DType
    index: DType
    size: Extent
    count: Extent
    inner: Extent

    def body(self, k: Nest) -> None:
        x, indices, out = k.arrays(self.dtype, self.index, self.dtype)
        size, count, inner = k.sizes((self.size, self.count, self.inner))
        with k.units() as u:
            found = k.position(indices.get(k.rem(u, count)), size)
            row = k.add(k.mul(k.div(u, count), size), found)
            out.copy(k.mul(u, inner), x, k.mul(row, inner), inner)


@dataclass(frozen=True)
class GatherElements(IrregularKernel):
    """`out[i.., j] = x[i.., j]` with the coordinate at `axis` from indices; a unit is a row."""

    family: ClassVar[str] = "gather_elements"
    dtype: DType
    index: DType
    x: tuple[Extent, ...]
    out: tuple[Extent, ...]
    axis: int

    def body(self, k: Nest) -> None:
        x, indices, out = k.arrays(self.dtype, self.index, self.dtype)
        have, sizes = k.sizes(self.x), k.sizes(self.out)
        with k.units() as u, k.loop(sizes[-1]) as j:
            to = k.add(k.mul(u, sizes[-1]), j)
            at = [*k.split(u, sizes[:-1]), j]
            at[self.axis] = k.position(indices.get(to), have[self.axis])
            out.put(to, x.raw(k.flat(at, have)))


@dataclass(frozen=True)
class GatherNd(IrregularKernel):
    """`out[b, i, :] = x[b, indices[b, i, 0], indices[b, i, 1].., :]`; a unit is one (b, i)."""

    family: ClassVar[str] = "gather_nd"
    dtype: DType
    index: DType
    sizes: tuple[Extent, ...]
    count: Extent
    inner: Extent

    def body(self, k: Nest) -> None:
        x, indices, out = k.arrays(self.dtype, self.index, self.dtype)
        count, inner, depth = k.size(self.count), k.size(self.inner), len(self.sizes)
        with k.units() as u:
            row = k.div(u, count)
            for i, size in enumerate(k.sizes(self.sizes)):
                found = k.position(indices.get(k.add(k.mul(u, depth), i)), size)
                row = k.add(k.mul(row, size), found)
            out.copy(k.mul(u, inner), x, k.mul(row, inner), inner)


def _merge(k: Nest, reduction: str, dtype: DType, old: ir.Value, new: ir.Value) -> ir.Value:
    """One step of a scatter's reduction; on bool, add and max are `or`, mul and min are `and`."""
    if dtype == DType.BOOL:
        return (k.m.or_ if reduction in ("add", "max") else k.m.and_)(old, new)
    return emit_step(k, Step(reduction, (), (0, 1), (dtype, dtype), dtype), (old, new))


def _update(k: Nest, reduction: str, out: Array, to: Int, updates: Array, source: Int) -> None:
    if reduction == "none":
        out.put(to, updates.raw(source))
    else:
        out.set(to, _merge(k, reduction, out.dtype, out.get(to), updates.get(source)))


@dataclass(frozen=True)
class ScatterElements(IrregularKernel):
    """Copies x, then merges the updates in row-major order: one unit."""

    family: ClassVar[str] = "scatter_elements"
    dtype: DType
    index: DType
    x: tuple[Extent, ...]
    updates: tuple[Extent, ...]
    axis: int
    reduction: str

    def body(self, k: Nest) -> None:
        x, indices, updates, out = k.arrays(self.dtype, self.index, self.dtype, self.dtype)
        have, sizes = k.sizes(self.x), k.sizes(self.updates)
        with k.units():
            k.copy_unless_same(out, x, k.product(have))
            with k.nest(sizes) as place:
                source = k.flat(place, sizes)
                at = list(place)
                at[self.axis] = k.position(indices.get(source), have[self.axis])
                _update(k, self.reduction, out, k.flat(at, have), updates, source)


@dataclass(frozen=True)
class ScatterNd(IrregularKernel):
    """Copies x, then merges `count` slices of `inner` elements in order: one unit."""

    family: ClassVar[str] = "scatter_nd"
    dtype: DType
    index: DType
    sizes: tuple[Extent, ...]
    count: Extent
    inner: Extent
    reduction: str

    def body(self, k: Nest) -> None:
        x, indices, updates, out = k.arrays(self.dtype, self.index, self.dtype, self.dtype)
        sizes, inner, depth = k.sizes(self.sizes), k.size(self.inner), len(self.sizes)
        with k.units():
            k.copy_unless_same(out, x, k.mul(k.product(sizes), inner))
            with k.loop(k.size(self.count)) as u:
                row: Int = 0
                for i, size in enumerate(sizes):
                    found = k.position(indices.get(k.add(k.mul(u, depth), i)), size)
                    row = k.add(k.mul(row, size), found)
                to, source = k.mul(row, inner), k.mul(u, inner)
                if self.reduction == "none":
                    out.copy(to, updates, source, inner)
                else:
                    with k.loop(inner) as j:
                        places = k.add(to, j), k.add(source, j)
                        _update(k, self.reduction, out, places[0], updates, places[1])


@makes(shape.Gather)
def _gather(op: shape.Gather, p: Parameters) -> LoweredKernel:
    dims, count = op.x.shape, op.indices.type.elements
    inner = product(dims[op.axis + 1 :])
    spec = Gather(op.x.dtype, op.indices.dtype, p(dims[op.axis]), p(count), p(inner))
    units = product(dims[: op.axis]) * count
    return LoweredKernel(spec, (op.x, op.indices), p.dims, units, error=_text(op))


def _text(op: Any) -> str:
    return f"{op.opname}: {_OUT_OF_RANGE}"


@makes(shape.GatherElements)
def _gather_elements(op: shape.GatherElements, p: Parameters) -> LoweredKernel:
    sizes = p.shape(op.x.shape), p.shape(op.indices.shape)
    spec = GatherElements(op.x.dtype, op.indices.dtype, *sizes, op.axis)
    units = product(op.indices.shape[:-1])
    return LoweredKernel(spec, (op.x, op.indices), p.dims, units, error=_text(op))


@makes(shape.GatherNd)
def _gather_nd(op: shape.GatherNd, p: Parameters) -> LoweredKernel:
    batch, depth = op.batch_dims, op.indices.shape[-1]
    sizes = p.shape(op.x.shape[batch : batch + depth])
    count = p(product(op.indices.shape[batch:-1]))
    inner = p(product(op.x.shape[batch + depth :]))
    spec = GatherNd(op.x.dtype, op.indices.dtype, sizes, count, inner)
    units = product(op.indices.shape[:-1])
    return LoweredKernel(spec, (op.x, op.indices), p.dims, units, error=_text(op))


@makes(shape.ScatterElements)
def _scatter_elements(op: shape.ScatterElements, p: Parameters) -> LoweredKernel:
    sizes = p.shape(op.x.shape), p.shape(op.indices.shape)
    spec = ScatterElements(op.x.dtype, op.indices.dtype, *sizes, op.axis, op.reduction)
    operands = (op.x, op.indices, op.updates)
    return LoweredKernel(spec, operands, p.dims, 1, error=_text(op), inplace=((0, 0),))


@makes(shape.ScatterNd)
def _scatter_nd(op: shape.ScatterNd, p: Parameters) -> LoweredKernel:
    depth = op.indices.shape[-1]
    sizes, inner = p.shape(op.x.shape[:depth]), p(product(op.x.shape[depth:]))
    count = p(product(op.indices.shape[:-1]))
    spec = ScatterNd(op.x.dtype, op.indices.dtype, sizes, count, inner, op.reduction)
    operands = (op.x, op.indices, op.updates)
    return LoweredKernel(spec, operands, p.dims, 1, error=_text(op), inplace=((0, 0),))

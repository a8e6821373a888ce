"""Operations that move elements: shapes, slices, padding, gathers and scatters; and leaves."""

from collections.abc import Callable
from typing import Any

import numpy as np

from tilewright.backends.reference.casting import int_view, wrapped
from tilewright.backends.reference.interpreter import Array, Context, DataError, reference
from tilewright.compiler.ir.ops import leaf, shape


@reference(leaf.Constant)
def _constant(op: leaf.Constant, at: Context) -> Array:
    array = np.asarray(at.weights[op.name].load())
    return array.astype(at.carrier(op.type.dtype), copy=False)


@reference(leaf.DimValue)
def _dim(op: leaf.DimValue, at: Context) -> Array:
    return np.asarray(at.size(op.size), np.int64)


@reference(leaf.Iota)
def _iota(op: leaf.Iota, at: Context) -> Array:
    return np.arange(at.size(op.length)).astype(at.carrier(op.dtype))


@reference(leaf.Fill)
def _fill(op: leaf.Fill, at: Context) -> Array:
    value = np.asarray(op.value)
    if op.type.dtype.is_int:
        value = wrapped(value, op.type.dtype)
    return np.full(at.shape(op.type.shape), value.astype(at.carrier(op.type.dtype)))


@reference(shape.Reshape)
def _reshape(op: shape.Reshape, at: Context, x: Array) -> Array:
    return x.reshape(at.shape(op.shape))


@reference(shape.Transpose)
def _transpose(op: shape.Transpose, at: Context, x: Array) -> Array:
    return np.ascontiguousarray(np.transpose(x, op.perm))


@reference(shape.Broadcast)
def _broadcast(op: shape.Broadcast, at: Context, x: Array) -> Array:
    return np.broadcast_to(x, at.shape(op.shape))


def _strided(x: Array, starts: Any, steps: Any, lengths: tuple[int, ...]) -> Array:
    for axis, (start, step, length) in enumerate(zip(starts, steps, lengths, strict=True)):
        x = np.take(x, int(start) + np.arange(length) * int(step), axis)
    return x


@reference(shape.Slice)
def _slice(op: shape.Slice, at: Context, x: Array) -> Array:
    return _strided(x, at.shape(op.starts), op.steps, at.shape(op.shape))


@reference(shape.DynamicSlice)
def _dynamic_slice(
    op: shape.DynamicSlice, at: Context, x: Array, starts: Array, steps: Array
) -> Array:
    lengths = at.shape(op.shape)
    clamped = []
    for size, start, step, length in zip(x.shape, starts, steps, lengths, strict=True):
        reach = (max(length, 1) - 1) * int(step)
        low, high = max(0, -reach), size - 1 - max(0, reach)
        if length and low > high:
            raise DataError(f"{length} elements with step {step} do not fit in {size}")
        clamped.append(min(max(int(start), low), max(high, low)))
    return _strided(x, clamped, steps, lengths)


@reference(shape.Pad)
def _pad(op: shape.Pad, at: Context, x: Array, value: Array | None) -> Array:
    inside = np.ones((), bool)
    for axis, (low, high) in enumerate(zip(at.shape(op.low), at.shape(op.high), strict=True)):
        size = x.shape[axis] + min(low, 0) + min(high, 0)
        position = np.arange(x.shape[axis] + low + high) - max(low, 0)
        if size <= 0 and len(position) and op.mode != "constant":
            raise DataError(f"pad: mode {op.mode} of an empty axis")
        valid = (position >= 0) & (position < size)
        if op.mode == "wrap":
            position = position % max(size, 1)
        elif op.mode == "reflect" and size > 1:
            folded = position % (2 * size - 2)
            position = np.minimum(folded, 2 * size - 2 - folded)
        position = np.clip(position, 0, max(size - 1, 0)) + max(-low, 0)
        if op.mode == "constant":
            view = [1] * x.ndim
            view[axis] = -1
            inside = inside & valid.reshape(view)
            if size <= 0:
                x = np.zeros((*x.shape[:axis], 1, *x.shape[axis + 1 :]), x.dtype)
                position = np.zeros_like(position)
        x = np.take(x, position, axis)
    filler = x.dtype.type(0) if value is None else value
    return np.where(inside, x, filler) if op.mode == "constant" else x


@reference(shape.Concat)
def _concat(op: shape.Concat, at: Context, parts: tuple[Array, ...]) -> Array:
    return np.concatenate(parts, op.axis)


def checked(indices: Array, size: int, what: str) -> Array:
    """Indices with negative ones counted from the end; `DataError` if one is out of range."""
    found = indices.astype(np.int64)
    bad = (found < -size) | (found >= size)
    if bad.any():
        raise DataError(f"{what}: index {found[bad][0]} is out of range for {size}")
    return np.where(found < 0, found + size, found)


@reference(shape.Gather)
def _gather(op: shape.Gather, at: Context, x: Array, indices: Array) -> Array:
    return np.take(x, checked(indices, x.shape[op.axis], "gather"), op.axis)


@reference(shape.GatherElements)
def _gather_elements(op: shape.GatherElements, at: Context, x: Array, indices: Array) -> Array:
    places = _along(indices, checked(indices, x.shape[op.axis], "gather_elements"), op.axis)
    return x[places]


def _along(indices: Array, found: Array, axis: int) -> tuple[Array, ...]:
    grid = list(np.ogrid[tuple(slice(n) for n in indices.shape)])
    grid[axis] = found
    return tuple(np.broadcast_arrays(*grid)) if grid else ()


def _tuples(indices: Array, sizes: tuple[int, ...], what: str) -> list[Array]:
    depth = indices.shape[-1]
    return [checked(indices[..., i], sizes[i], what) for i in range(depth)]


@reference(shape.GatherNd)
def _gather_nd(op: shape.GatherNd, at: Context, x: Array, indices: Array) -> Array:
    b = op.batch_dims
    columns = _tuples(indices, x.shape[b:], "gather_nd")
    count = indices.ndim - 1
    batch = [
        np.arange(n).reshape([-1 if i == axis else 1 for i in range(count)])
        for axis, n in enumerate(x.shape[:b])
    ]
    lead = indices.shape[:-1]
    places = tuple(np.broadcast_to(p, lead) for p in (*batch, *columns))
    return x[places] if places else np.broadcast_to(x, (*lead, *x.shape))


_COMBINE: dict[str, Callable[[Array, Array], Any]] = {
    "add": np.add,
    "mul": np.multiply,
    "min": np.minimum,
    "max": np.maximum,
}


def _scatter(op: Any, at: Context, x: Array, places: tuple[Array, ...], updates: Array) -> Array:
    """In row-major order of the updates, one after another: duplicates see earlier results."""
    dtype = op.x.dtype
    if dtype.is_float and op.reduction != "none":
        compute = at.compute(dtype)
    else:
        compute = x.dtype
    out = x.copy()
    if out.size == 0 or updates.size == 0:
        return out
    flat = np.ravel_multi_index(places, x.shape).reshape(-1) if places else np.zeros(1, np.int64)
    source = updates.reshape(-1)
    target = out.reshape(-1)
    if op.reduction == "none":
        for index, value in zip(flat, source, strict=True):
            target[index] = value
        return target.reshape(x.shape)
    combine = _COMBINE[op.reduction]
    for index, value in zip(flat, source, strict=True):
        if dtype.is_int:
            pair = (int_view(target[index], dtype), int_view(value, dtype))
            target[index] = wrapped(combine(*pair), dtype)
        else:
            target[index] = combine(target[index].astype(compute), value.astype(compute))
    return target.reshape(x.shape)


@reference(shape.ScatterElements)
def _scatter_elements(
    op: shape.ScatterElements, at: Context, x: Array, indices: Array, updates: Array
) -> Array:
    found = checked(indices, x.shape[op.axis], "scatter_elements")
    return _scatter(op, at, x, _along(indices, found, op.axis), updates)


@reference(shape.ScatterNd)
def _scatter_nd(
    op: shape.ScatterNd, at: Context, x: Array, indices: Array, updates: Array
) -> Array:
    columns = _tuples(indices, x.shape, "scatter_nd")
    depth, lead = indices.shape[-1], indices.ndim - 1
    rest = x.shape[depth:]
    places = [c.reshape(c.shape + (1,) * len(rest)) for c in columns]
    for axis, n in enumerate(rest):
        view = [1] * (lead + len(rest))
        view[lead + axis] = -1
        places.append(np.arange(n).reshape(view))
    full = tuple(np.broadcast_to(p, updates.shape) for p in places)
    return _scatter(op, at, x, full, updates)

"""Pooling over channels-last tensors."""

from typing import Any

import numpy as np

from tilewright.backends.reference.casting import int_view, truncating_divide, wrapped
from tilewright.backends.reference.interpreter import Array, Context, reference
from tilewright.backends.reference.reductions import least
from tilewright.compiler.ir.ops import nn


def _taps(op: Any, sizes: tuple[int, ...], shape: tuple[int, ...]) -> Any:
    """For every tap: clipped positions per axis, and masks of those inside x and inside padding."""
    for tap in np.ndindex(*op.window):
        places, inside = [], np.ones((1,) * len(shape), bool)
        padded = inside
        for axis, t in enumerate(tap):
            at = np.arange(shape[axis]) * op.strides[axis] + t * op.dilations[axis]
            at = at - op.pads_low[axis]
            view = [1] * len(shape)
            view[axis] = -1
            real = (at >= 0) & (at < sizes[axis])
            room = at < sizes[axis] + op.pads_high[axis]
            inside, padded = inside & real.reshape(view), padded & room.reshape(view)
            places.append(np.clip(at, 0, max(sizes[axis] - 1, 0)))
        yield tap, places, inside[None, ..., None], padded[None, ..., None]


def _picked(x: Array, places: list[Array]) -> Array:
    for axis, place in enumerate(places, start=1):
        x = np.take(x, place, axis)
    return x


@reference(nn.Pool)
def _pool(op: nn.Pool, at: Context, x: Array) -> Array:
    dtype, shape = op.x.dtype, at.shape(op.shape)
    full = (x.shape[0], *shape, x.shape[-1])
    wide = x.astype(np.float64) if dtype.is_float else int_view(x, dtype)
    out: Any = np.full(full, least(dtype) if op.kind == "max" else 0, wide.dtype)
    if op.kind != "max" and not dtype.is_float:
        out = out.astype(np.int64)
    count = np.zeros((1, *shape, 1), np.int64)
    if x.size and out.size:
        for _, places, inside, padded in _taps(op, x.shape[1:-1], shape):
            value = _picked(wide, places)
            if op.kind == "max":
                out = np.where(inside, np.maximum(out, value), out)
            else:
                value = np.abs(value) ** op.p if op.kind == "lp" else value
                out = out + np.where(inside, value, value.dtype.type(0))
            count = count + (padded if op.count_pad else inside)
    if op.kind == "mean":
        out = out / count if dtype.is_float else truncating_divide(out, count)
    if op.kind == "lp":
        out = out ** (1.0 / op.p)
    return at.rounded(out, dtype) if dtype.is_float else wrapped(out, dtype)


@reference(nn.MaxPoolIndices)
def _max_pool_indices(op: nn.MaxPoolIndices, at: Context, x: Array) -> Array:
    """The first tap, in row-major order, that holds the maximum; NaN counts as the largest.

    A window without any element of x gives 0.
    """
    dtype, shape = op.x.dtype, at.shape(op.shape)
    wide = x.astype(np.float64) if dtype.is_float else int_view(x, dtype)
    n, sizes, channels = x.shape[0], x.shape[1:-1], x.shape[-1]
    full = (n, *shape, channels)
    best: Any = np.zeros(full, wide.dtype)
    found = np.zeros(full, np.int64)
    seen = np.zeros(full, bool)
    strides = list(np.cumprod((1, *sizes[:0:-1]))[::-1])
    if op.column_major and len(sizes) >= 2:
        strides[-2:] = [1, sizes[-2]]
    plane = np.arange(n)[:, None] * channels + np.arange(channels)[None, :]
    plane = plane.reshape(n, *(1,) * len(shape), channels) * int(np.prod(sizes))
    if x.size and found.size:
        for _, places, inside, _ in _taps(op, sizes, shape):
            value = _picked(wide, places)
            flat = plane
            for axis, place in enumerate(places):
                view = [1] * len(full)
                view[axis + 1] = -1
                flat = flat + place.reshape(view) * strides[axis]
            nan = (value != value) & (best == best)
            better = inside & (~seen | (value > best) | nan)
            best, found = np.where(better, value, best), np.where(better, flat, found)
            seen = seen | inside
    return found

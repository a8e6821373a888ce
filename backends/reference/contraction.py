"""Contraction and convolution, accumulated in float64 and rounded once, or in wrapping integers."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from tilewright.backends.reference.casting import int_view, wrapped
from tilewright.backends.reference.interpreter import Array, Context, reference
from tilewright.compiler.ir.core import Region
from tilewright.compiler.ir.ops.contraction import Contract, Conv
from tilewright.compiler.ir.types import DType


def product_sum(spec: str, a: Array, b: Array) -> Array:
    """einsum of two operands as one batched matmul, in the arrays' own type."""
    left, out = spec.split("->")
    ia, ib = left.split(",")
    sizes = dict(zip(ia, a.shape, strict=True)) | dict(zip(ib, b.shape, strict=True))
    batch = [c for c in out if c in ia and c in ib]
    rows = [c for c in out if c in ia and c not in ib]
    columns = [c for c in out if c in ib and c not in ia]
    summed = [c for c in ia if c in ib and c not in out]

    def arranged(array: Array, letters: str, groups: Sequence[list[str]]) -> Array:
        order = [letters.index(c) for group in groups for c in group]
        shape = [int(np.prod([sizes[c] for c in group], dtype=np.int64)) for group in groups]
        return np.transpose(array, order).reshape(shape)

    product = arranged(a, ia, (batch, rows, summed)) @ arranged(b, ib, (batch, summed, columns))
    have = batch + rows + columns
    found = product.reshape([sizes[c] for c in have])
    return np.transpose(found, [have.index(c) for c in out])


def _wide(x: Array, dtype: DType, exact: bool) -> Array:
    """The operand in the type of the accumulation; `exact`: f64 holds every integer sum."""
    if dtype.is_float or exact:
        return x.astype(np.float64)
    return int_view(x, dtype)


def _finish(total: Array, at: Context, dtype: DType) -> Array:
    if dtype.is_float:
        return at.rounded(total, dtype)
    return wrapped(total.astype(np.int64) if total.dtype.kind == "f" else total, dtype)


def epilogue(body: Region | None, at: Context, first: Array, extras: tuple[Array, ...]) -> Array:
    """The result of an operation with a fused body, for what its sums are."""
    return first if body is None else at.region(body, (first, *extras))[0]


@reference(Contract)
def _contract(op: Contract, at: Context, a: Array, b: Array, extras: tuple[Array, ...]) -> Array:
    small = (DType.I8, DType.U8)
    exact = op.a.dtype in small and op.b.dtype in small
    dtype = DType.I32 if exact else op.a.dtype
    total = product_sum(op.spec, _wide(a, op.a.dtype, exact), _wide(b, op.b.dtype, exact))
    return epilogue(op.body, at, _finish(total, at, dtype), extras)


@reference(Conv)
def _conv(
    op: Conv, at: Context, x: Array, w: Array, fill: Array | None, extras: tuple[Array, ...]
) -> Array:
    small = (DType.I8, DType.U8)
    exact = op.x.dtype in small and op.w.dtype in small
    dtype = DType.I32 if exact else op.x.dtype
    wide_x, wide_w = _wide(x, op.x.dtype, exact), _wide(w, op.w.dtype, exact)
    taps, (depth, total) = w.shape[:-2], w.shape[-2:]
    shape = tuple(
        (n + lo + hi - (t - 1) * d - 1) // s + 1
        for n, lo, hi, t, d, s in zip(
            x.shape[1:-1], op.pads_low, op.pads_high, taps, op.dilations, op.strides, strict=True
        )
    )
    lows = [max(p, 0) for p in op.pads_low]
    highs = [max(p, 0) for p in op.pads_high]
    outside = 0 if fill is None else _wide(fill, op.x.dtype, exact)
    reach = [(0, 0), *zip(lows, highs, strict=True), (0, 0)]
    padded = np.pad(wide_x, reach, constant_values=outside)
    for axis, (lo, hi) in enumerate(zip(op.pads_low, op.pads_high, strict=True), start=1):
        stop = padded.shape[axis] + min(hi, 0)
        padded = np.take(padded, np.arange(max(-lo, 0), stop), axis)
    groups, n = op.groups, x.shape[0]
    sums: Any = 0
    for tap in np.ndindex(*taps):
        window = [slice(None)]
        for t, d, s, size in zip(tap, op.dilations, op.strides, shape, strict=True):
            window.append(slice(t * d, t * d + (size - 1) * s + 1, s))
        rows = padded[tuple(window)].reshape(-1, groups, depth)
        kernel = wide_w[tap].reshape(depth, groups, total // groups)
        sums = sums + np.matmul(rows.transpose(1, 0, 2), kernel.transpose(1, 0, 2))
    if np.ndim(sums) == 0:  # no taps
        sums = np.zeros((groups, n * int(np.prod(shape)), total // groups), wide_x.dtype)
    out = np.ascontiguousarray(sums.transpose(1, 0, 2)).reshape((n, *shape, total))
    return epilogue(op.body, at, _finish(out, at, dtype), extras)

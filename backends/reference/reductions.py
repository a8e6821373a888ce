"""Reductions, scans, argmax and top-k."""

from typing import Any

import numpy as np

from tilewright.backends.reference.casting import int_view, truncating_divide, wrapped
from tilewright.backends.reference.interpreter import Array, Context, reference
from tilewright.compiler.ir.ops import reduce
from tilewright.compiler.ir.types import DType


def least(dtype: DType) -> Any:
    """The least value of a type (-inf for floats)."""
    if dtype.is_float:
        return -np.inf
    return -(2 ** (dtype.bits - 1)) if dtype.kind == "int" else 0


def greatest(dtype: DType) -> Any:
    """The greatest value of a type (+inf for floats)."""
    if dtype.is_float:
        return np.inf
    return 2 ** (dtype.bits - (dtype.kind == "int")) - 1


@reference(reduce.Reduce)
def _reduce(op: reduce.Reduce, at: Context, x: Array) -> Array:
    dtype, axes = op.x.dtype, op.axes
    out: Any
    if op.kind in ("any", "all"):
        function = np.any if op.kind == "any" else np.all
        return np.asarray(function(x, axis=axes, keepdims=op.keepdims))
    if dtype.is_float:
        wide = x.astype(np.float64)
        match op.kind:
            case "sum":
                out = np.sum(wide, axes, keepdims=op.keepdims)
            case "mean":
                count = np.prod([x.shape[a] for a in axes])
                out = np.sum(wide, axes, keepdims=op.keepdims) / count
            case "prod":
                out = np.prod(wide, axes, keepdims=op.keepdims)
            case "max":
                out = np.max(wide, axes, keepdims=op.keepdims, initial=-np.inf)
            case _:
                out = np.min(wide, axes, keepdims=op.keepdims, initial=np.inf)
        return at.rounded(np.asarray(out), dtype)
    ints = int_view(x, dtype)
    wide_int = np.uint64 if dtype.kind == "uint" else np.int64
    match op.kind:
        case "sum":
            out = np.sum(ints, axes, dtype=wide_int, keepdims=op.keepdims)
        case "mean":
            total = np.asarray(np.sum(ints, axes, dtype=wide_int, keepdims=op.keepdims))
            count = np.asarray(np.prod([x.shape[a] for a in axes]), wide_int)
            out = truncating_divide(total, count)
        case "prod":
            out = np.prod(ints, axes, dtype=wide_int, keepdims=op.keepdims)
        case "max":
            out = np.max(ints, axes, keepdims=op.keepdims, initial=least(dtype))
        case _:
            out = np.min(ints, axes, keepdims=op.keepdims, initial=greatest(dtype))
    return wrapped(np.asarray(out), dtype)


def _comparable(x: Array, dtype: DType) -> Array:
    if dtype.is_float:
        return x.astype(np.float64)
    return int_view(x, dtype) if dtype.is_int else x.astype(np.uint8)


@reference(reduce.ArgReduce)
def _arg_reduce(op: reduce.ArgReduce, at: Context, x: Array) -> Array:
    keys = _comparable(x, op.x.dtype)
    function = np.argmax if op.kind == "max" else np.argmin
    if keys.size == 0:
        return np.zeros(at.shape(op.out.shape), np.int64)
    if op.last:
        keys = np.flip(keys, op.axis)
    found = function(keys, op.axis, keepdims=op.keepdims)
    if op.last:
        found = x.shape[op.axis] - 1 - found
    return np.asarray(found, np.int64)


@reference(reduce.Cumulate)
def _cumulate(op: reduce.Cumulate, at: Context, x: Array) -> Array:
    dtype, axis = op.x.dtype, op.axis
    wide = x.astype(np.float64) if dtype.is_float else int_view(x, dtype)
    if op.reverse:
        wide = np.flip(wide, axis)
    one = 1 if op.kind == "prod" else 0
    if op.exclusive and x.shape[axis]:
        first = np.full_like(np.take(wide, [0], axis), one)
        wide = np.concatenate([first, np.delete(wide, -1, axis)], axis)
    accumulate = np.cumsum if op.kind == "sum" else np.cumprod
    out = accumulate(wide, axis, dtype=wide.dtype)
    if op.reverse:
        out = np.flip(out, axis)
    return at.rounded(out, dtype) if dtype.is_float else wrapped(out, dtype)


@reference(reduce.TopK)
def _top_k(op: reduce.TopK, at: Context, x: Array) -> list[Array]:
    keys, k = _comparable(x, op.x.dtype), at.size(op.k)
    if op.largest:  # stable and descending: sort the reversed axis ascending, reverse the result
        order = np.argsort(np.flip(keys, op.axis), op.axis, kind="stable")
        order = x.shape[op.axis] - 1 - np.flip(order, op.axis)
    else:
        order = np.argsort(keys, op.axis, kind="stable")
    order = np.take(order, np.arange(k), op.axis)
    return [np.take_along_axis(x, order, op.axis), order.astype(np.int64)]


@reference(reduce.ReduceRows)
def _reduce_rows(op: reduce.ReduceRows, at: Context, x: Array, ids: Array | None = None) -> Any:
    wide = x.astype(np.float64)
    if op.kind == "top":
        order = np.argsort(np.flip(wide, -1), -1, kind="stable")
        order = x.shape[-1] - 1 - np.flip(order, -1)[..., : op.count]
        return [np.take_along_axis(x, order, -1), order.astype(np.int64)]
    if op.kind == "argmax":
        found = np.argmax(np.flip(wide, -1) if op.last else wide, -1)
        return np.asarray(x.shape[-1] - 1 - found if op.last else found, np.int64)
    top = np.max(wide, -1, keepdims=True)
    if op.kind == "max":
        return at.rounded(top[..., 0], DType.F32)
    with np.errstate(all="ignore"):
        if op.kind in ("log_sum_exp", "finite_log_sum_exp"):
            shift = np.where(np.isfinite(top), top, 0.0) if op.kind == "log_sum_exp" else top
            total = np.log(np.exp(wide - shift).sum(-1, keepdims=True)) + shift
            return at.rounded(total[..., 0], DType.F32)
        assert ids is not None
        moved = wide - top
        logs = moved - np.log(np.exp(moved).sum(-1, keepdims=True))
        taken = np.where(ids < 0, ids + x.shape[-1], ids)
        return at.rounded(np.take_along_axis(logs, taken, -1), DType.F32)

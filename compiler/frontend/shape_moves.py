"""How data movement, leaves and reductions transform symbolic elements (see `shape_values`)."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tilewright.compiler.frontend.dim_logic import BoundsOf, larger, select, smaller
from tilewright.compiler.frontend.shape_rules import Elements, rule_for
from tilewright.compiler.ir.dims import Expr
from tilewright.compiler.ir.ops import binary, leaf, reduce, shape


@rule_for(binary.Where)
def _where(op: Any, operands: Sequence[Elements | None], bounds_of: BoundsOf) -> Elements | None:
    condition, a, b = operands
    if condition is None or (a is None and b is None):
        return None
    unknown = np.empty((), object)
    arrays = np.broadcast_arrays(
        condition, unknown if a is None else a, unknown if b is None else b
    )
    out = np.empty(arrays[0].shape, object)
    for i, (c, x, y) in enumerate(zip(*(v.reshape(-1) for v in arrays), strict=True)):
        if isinstance(c, int):
            out.reshape(-1)[i] = x if c else y
        elif isinstance(c, Expr) and isinstance(x, int | Expr) and isinstance(y, int | Expr):
            out.reshape(-1)[i] = select(c, x, y)
    return out


@rule_for(leaf.DimValue)
def _dim(op: Any, operands: Sequence[Elements | None], bounds_of: BoundsOf) -> Elements | None:
    out = np.empty((), object)
    out[()] = op.size
    return out


@rule_for(leaf.Iota)
def _iota(op: Any, operands: Sequence[Elements | None], bounds_of: BoundsOf) -> Elements | None:
    return np.arange(op.length).astype(float if op.dtype.is_float else np.int64).astype(object)


@rule_for(leaf.Fill)
def _fill(op: Any, operands: Sequence[Elements | None], bounds_of: BoundsOf) -> Elements | None:
    out = np.empty(op.type.shape, object)
    out[...] = float(op.value) if op.type.dtype.is_float else int(op.value)
    return out


@rule_for(shape.Reshape)
def _reshape(op: Any, operands: Sequence[Elements | None], bounds_of: BoundsOf) -> Elements | None:
    return None if operands[0] is None else operands[0].reshape(op.shape)


@rule_for(shape.Transpose)
def _transpose(
    op: Any, operands: Sequence[Elements | None], bounds_of: BoundsOf
) -> Elements | None:
    return None if operands[0] is None else operands[0].transpose(op.perm)


@rule_for(shape.Broadcast)
def _broadcast(
    op: Any, operands: Sequence[Elements | None], bounds_of: BoundsOf
) -> Elements | None:
    return None if operands[0] is None else np.broadcast_to(operands[0], op.shape)


@rule_for(shape.Slice)
def _slice(op: Any, operands: Sequence[Elements | None], bounds_of: BoundsOf) -> Elements | None:
    (x,) = operands
    if x is None or not all(isinstance(s, int) for s in op.starts):
        return None
    for axis, (start, step, size) in enumerate(zip(op.starts, op.steps, op.shape, strict=True)):
        index = start + step * np.arange(size)
        if size and not (index.min() >= 0 and index.max() < x.shape[axis]):
            return None
        x = np.take(x, index, axis=axis)
    return x


@rule_for(shape.Concat)
def _concat(op: Any, operands: Sequence[Elements | None], bounds_of: BoundsOf) -> Elements | None:
    parts = []
    for part, value in zip(operands, op.parts, strict=True):
        parts.append(np.empty(value.shape, object) if part is None else part)
    return np.concatenate(parts, axis=op.axis)


@rule_for(shape.Pad)
def _pad(op: Any, operands: Sequence[Elements | None], bounds_of: BoundsOf) -> Elements | None:
    x, value = operands[0], operands[1] if len(operands) > 1 else np.zeros((), object)
    if x is None or value is None or op.mode != "constant":
        return None
    widths = list(zip(op.low, op.high, strict=True))
    if not all(isinstance(w, int) and w >= 0 for pair in widths for w in pair):
        return None
    zero = 0.0 if op.out.dtype.is_float else 0
    fill = value[()] if len(operands) > 1 else zero
    out = np.empty(op.out.shape, object)
    out[...] = fill
    out[tuple(slice(lo, lo + d) for (lo, _), d in zip(widths, x.shape, strict=True))] = x
    return out


def _positions(indices: Elements | None, size: int) -> np.ndarray | None:
    if indices is None or not all(isinstance(i, int) and -size <= i < size for i in indices.flat):
        return None
    return indices.astype(np.int64) % max(size, 1)


@rule_for(shape.Gather)
def _gather(op: Any, operands: Sequence[Elements | None], bounds_of: BoundsOf) -> Elements | None:
    x, indices = operands
    found = None if x is None else _positions(indices, x.shape[op.axis])
    if x is None or found is None:
        return None
    return np.asarray(np.take(x, found, axis=op.axis), dtype=object)


@rule_for(shape.GatherElements)
def _gather_elements(
    op: Any, operands: Sequence[Elements | None], bounds_of: BoundsOf
) -> Elements | None:
    x, indices = operands
    found = None if x is None else _positions(indices, x.shape[op.axis])
    return None if x is None or found is None else np.take_along_axis(x, found, axis=op.axis)


@rule_for(shape.ScatterElements)
def _scatter_elements(
    op: Any, operands: Sequence[Elements | None], bounds_of: BoundsOf
) -> Elements | None:
    x, indices, updates = operands
    found = None if x is None else _positions(indices, x.shape[op.axis])
    if x is None or updates is None or found is None or op.reduction != "none":
        return None
    out = x.copy()
    np.put_along_axis(out, found, updates, axis=op.axis)
    return out


@rule_for(shape.ScatterNd)
def _scatter_nd(
    op: Any, operands: Sequence[Elements | None], bounds_of: BoundsOf
) -> Elements | None:
    x, indices, updates = operands
    if x is None or indices is None or updates is None or op.reduction != "none":
        return None
    if not all(isinstance(i, int) for i in indices.flat):
        return None
    out = x.copy()
    for at in np.ndindex(indices.shape[:-1]):
        out[tuple(indices[at])] = updates[at]
    return out


@rule_for(reduce.Reduce)
def _reduce(op: Any, operands: Sequence[Elements | None], bounds_of: BoundsOf) -> Elements | None:
    (x,) = operands
    combine: dict[str, Callable[[Any, Any], Any]] = {
        "sum": lambda a, b: a + b,
        "prod": lambda a, b: a * b,
        "min": lambda a, b: smaller(a, b, bounds_of),
        "max": lambda a, b: larger(a, b, bounds_of),
    }
    if (
        x is None
        or op.kind not in combine
        or any(s is None or isinstance(s, float) for s in x.flat)
    ):
        return None
    if op.kind in ("min", "max") and x.size == 0:
        return None
    start: Any = {"sum": 0, "prod": 1}.get(op.kind)
    out = np.frompyfunc(combine[op.kind], 2, 1)
    for axis in sorted(op.axes, reverse=True):
        first = {} if start is None else {"initial": start}
        x = out.reduce(x, axis=axis, keepdims=op.keepdims, **first)
        x = np.asarray(x, dtype=object)
    return x


@rule_for(reduce.Cumulate)
def _cumulate(op: Any, operands: Sequence[Elements | None], bounds_of: BoundsOf) -> Elements | None:
    (x,) = operands
    if x is None or op.exclusive or op.reverse or any(s is None for s in x.flat):
        return None
    f = np.frompyfunc(lambda a, b: a + b if op.kind == "sum" else a * b, 2, 1)
    return np.asarray(f.accumulate(x, axis=op.axis, dtype=object), dtype=object)

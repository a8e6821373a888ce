"""Proving that a mask lets query i see the keys up to i plus an offset."""

import numpy as np

from tilewright.compiler.ir.core import Value
from tilewright.compiler.ir.dims import Dim
from tilewright.compiler.ir.ops.binary import Add, Ge, Gt, Le, Lt, Sub
from tilewright.compiler.ir.ops.leaf import DimValue, Iota
from tilewright.compiler.ir.ops.shape import Broadcast, Reshape, Slice
from tilewright.compiler.ir.ops.unary import Cast, Not
from tilewright.compiler.ir.rewrite import Builder
from tilewright.compiler.ir.types import DType
from tilewright.passes.match import constant_array, splat

HIDDEN = -1e30
"""A score below this has no weight next to any other: exp of the difference is zero in f32."""

KEY, QUERY = 1, 2
"""The axes of keys and queries in scores, counted from the end."""

Index = tuple[int | None, Dim]
"""`index along an axis (from the end; None: no index) + offset`."""


def causal_offset(condition: Value, visible: bool, builder: Builder) -> Dim | None:
    """The offset o when `condition == visible` exactly where key <= query + o; else None.

    condition: bool[.., queries, keys], made of comparisons of counters, or constant.
    """
    op = condition.op
    if isinstance(op, Not):
        return causal_offset(op.x, not visible, builder)
    if isinstance(op, Broadcast) and op.x.shape[-2:] == condition.shape[-2:]:
        return causal_offset(op.x, visible, builder)
    if isinstance(op, Reshape) and op.x.shape[-2:] == condition.shape[-2:]:
        return causal_offset(op.x, visible, builder)
    if isinstance(op, Gt | Ge | Lt | Le):
        return _compared(op, visible, builder)
    array = constant_array(builder, condition)
    return None if array is None else array_offset(array == visible)


def array_offset(visible: np.ndarray) -> int | None:
    """The offset of a constant mask: bool[1.., queries, keys]."""
    if visible.ndim < 2 or any(d != 1 for d in visible.shape[:-2]):
        return None
    queries, keys = visible.shape[-2:]
    plane = visible.reshape(queries, keys)
    offset = int(plane[0].sum()) - 1
    expected = np.arange(keys)[None, :] <= np.arange(queries)[:, None] + offset
    return offset if queries > 0 and bool((plane == expected).all()) else None


def _compared(op: Gt | Ge | Lt | Le, visible: bool, builder: Builder) -> Dim | None:
    left, right = index_form(op.a, builder), index_form(op.b, builder)
    if left is None or right is None:
        return None
    less, strict = isinstance(op, Lt | Le), isinstance(op, Lt | Gt)
    if (left[0], right[0]) == (QUERY, KEY):
        left, right, less = right, left, not less
    if (left[0], right[0]) != (KEY, QUERY):
        return None
    if not visible:  # not (a < b) is a >= b
        less, strict = not less, not strict
    if not less:
        return None
    return right[1] - left[1] - int(strict)


def index_form(value: Value, builder: Builder) -> Index | None:
    """`value` as an index along one of its axes plus a number, if it is one."""
    op = value.op
    literal = splat(builder, value)
    if isinstance(literal, int) and not isinstance(literal, bool):
        return None, literal
    if isinstance(op, Iota) and op.dtype.is_int:
        return 1, 0
    if isinstance(op, DimValue):
        return None, op.size
    if isinstance(op, Cast) and op.x.dtype.is_int and op.dtype in (DType.I64, DType.I32):
        return index_form(op.x, builder)
    if isinstance(op, Broadcast):
        return index_form(op.x, builder)
    if isinstance(op, Slice):
        inner = index_form(op.x, builder)
        if inner is None or inner[0] is None or any(s != 1 for s in op.steps):
            return None
        return inner[0], inner[1] + op.starts[op.x.rank - inner[0]]
    if isinstance(op, Reshape):
        return _reshaped(op, builder)
    if isinstance(op, Add | Sub):
        left, right = index_form(op.a, builder), index_form(op.b, builder)
        if left is None or right is None:
            return None
        if isinstance(op, Sub):
            return (left[0], left[1] - right[1]) if right[0] is None else None
        if left[0] is not None and right[0] is not None:
            return None
        return left[0] or right[0], left[1] + right[1]
    return None


def _reshaped(op: Reshape, builder: Builder) -> Index | None:
    inner = index_form(op.x, builder)
    if inner is None or inner[0] is None:
        return inner
    real = [i for i, d in enumerate(op.x.shape) if d != 1]
    real_out = [i for i, d in enumerate(op.shape) if d != 1]
    if [op.x.shape[i] for i in real] != [op.shape[i] for i in real_out]:
        return None
    axis = op.x.rank - inner[0]
    if axis not in real:
        return None
    return len(op.shape) - real_out[real.index(axis)], inner[1]

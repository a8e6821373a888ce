"""Operators that make tensors: constants, ranges, masks."""

import math

import numpy as np

from tilewright.compiler.frontend.context import Import
from tilewright.compiler.frontend.dim_logic import is_zero, larger
from tilewright.compiler.frontend.node import Node
from tilewright.compiler.frontend.registry import onnx_op
from tilewright.compiler.frontend.tensors import dense_array, element_type
from tilewright.compiler.frontend.terms import Term, iota, size_of
from tilewright.compiler.ir.core import Value
from tilewright.compiler.ir.dims import Dim, ceildiv
from tilewright.compiler.ir.ops.binary import Eq
from tilewright.compiler.ir.ops.control import Guard
from tilewright.compiler.ir.types import DType


@onnx_op("Constant")
def _constant(ctx: Import, node: Node) -> Value:
    given = node.attrs
    if "value" in given:
        return ctx.constant(given["value"], node.output_names[0])
    if "value_float" in given or "value_floats" in given:
        data = given.get("value_float", given.get("value_floats"))
        return ctx.constant(np.array(data, np.float32))
    if "value_int" in given or "value_ints" in given:
        data = given.get("value_int", given.get("value_ints"))
        return ctx.constant(np.array(data, np.int64))
    if "sparse_value" in given:
        return ctx.constant(dense_array(given["sparse_value"], node.where))
    ctx.fail(node, "only numeric constants are supported", f"given: {', '.join(given)}")


@onnx_op("ConstantOfShape")
def _constant_of_shape(ctx: Import, node: Node) -> Value:
    dims = ctx.dims_of(node.input(0))
    if dims is None:
        hint = "make the shape a constant, or an integer input of the model"
        ctx.fail(node, "the shape is computed from data", f"{node.input(0).type}", hint)
    value = node.attr("value", np.zeros(1, np.float32))
    from_array = ctx.constant(value.reshape(()))
    number = value.reshape(-1)[0].item()
    shape = ctx.declared([larger(d, 0, ctx.bounds_of) for d in dims], node.hint())
    return ctx.fill(number, from_array.dtype, shape)


@onnx_op("Range")
def range_(ctx: Import, node: Node) -> Value:
    """`start + i * delta`; the length is an expression for integers, constant for floats."""
    start, limit, delta = node.all_inputs()
    if any(v.type.elements != 1 for v in (start, limit, delta)):
        found = f"{start.type}, {limit.type}, {delta.type}"
        ctx.fail(node, "start, limit and delta must be scalars", found)
    given = [ctx.number(v) for v in (start, limit, delta)]
    if all(g is not None for g in given):
        first, last, step = given
        if step == 0:
            ctx.fail(node, "delta is 0")
        count: Dim = max(0, math.ceil((last - first) / step))
        if start.dtype.is_int and isinstance(count, int) and count <= 4096:
            return ctx.constant((first + step * np.arange(count)).astype(start.dtype.numpy))
        return _ramp(ctx, start, delta, count)
    bounds = [ctx.dims_of(v) for v in (start, limit, delta)]  # whole floats too
    if all(b is not None for b in bounds):
        (first,), (last,), (step,) = (b for b in bounds if b is not None)
        return _ramp(ctx, start, delta, _length(ctx, node, first, last, step))
    hint = node.hint()
    if hint is None or hint.static is None:
        advice = "make start, limit and delta constants, or declare the output shape"
        ctx.fail(node, "the length depends on run-time floating point values", "", advice)
    span = Term(ctx, limit) - start
    length = (span / delta).ceil().cast(DType.I64) if start.dtype.is_float else span
    same = length.maximum(0).emit(Eq, a=length.maximum(0).value, b=ctx.dim_value(hint.static[0]))
    message = f"{node.where}: the declared length is {hint.static[0]}"
    checked = ctx.emit(Guard, x=start, condition=same.value, message=message)
    return _ramp(ctx, checked, delta, hint.static[0])


def _length(ctx: Import, node: Node, first: Dim, last: Dim, step: Dim) -> Dim:
    low, high = ctx.bounds_of(step)
    if low is not None and low > 0:
        count = ceildiv(last - first, step)
    elif high is not None and high < 0:
        count = ceildiv(first - last, -step)
    else:
        # ceil(a / b) == -floor(-a / b) for either sign of b
        count = -((first - last) // (step + is_zero(step)))
    return ctx.declared((larger(count, 0, ctx.bounds_of),), node.hint())[0]


def _ramp(ctx: Import, start: Value, delta: Value, count: Dim) -> Value:
    return (iota(ctx, count, start.dtype) * ctx.reshape(delta, ()) + ctx.reshape(start, ())).value


def _offsets(ctx: Import, rows: Dim, columns: Dim) -> Term:
    """column - row: i64[rows, columns]."""
    return iota(ctx, columns).reshape(1, columns) - iota(ctx, rows).reshape(rows, 1)


@onnx_op("EyeLike")
def _eye_like(ctx: Import, node: Node) -> Value:
    x = node.input(0)
    if x.rank != 2:
        ctx.fail(node, "the operand must have rank 2", f"found {x.type}")
    to = node.attr("dtype", None)
    dtype = x.dtype if to is None else element_type(to, node.where)
    return _offsets(ctx, *x.shape).equals(node.attr("k", 0)).cast(dtype).value


@onnx_op("Trilu")
def _trilu(ctx: Import, node: Node) -> Value:
    x, k = Term(ctx, node.input(0)), node.maybe(1)
    offset = size_of(ctx, 0) if k is None else Term(ctx, ctx.reshape(k, ()))
    difference = _offsets(ctx, *x.dims[-2:])
    kept = difference >= offset if node.attr("upper", 1) else difference <= offset
    if x.dtype == DType.BOOL:
        return (kept & x).value
    return kept.where(x, 0, x.dtype).value

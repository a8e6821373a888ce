"""Gather, scatter, one-hot and the operators whose result size the data decides."""

from tilewright.compiler.frontend.context import Import
from tilewright.compiler.frontend.dequantized import Dequantized, real
from tilewright.compiler.frontend.node import Node
from tilewright.compiler.frontend.registry import onnx_op
from tilewright.compiler.frontend.terms import Term, iota, size_of
from tilewright.compiler.ir.core import Value
from tilewright.compiler.ir.dims import Dim
from tilewright.compiler.ir.ops.control import Compress, Custom, NonZero
from tilewright.compiler.ir.ops.shape import (
    Gather,
    GatherElements,
    GatherNd,
    ScatterElements,
    ScatterNd,
)
from tilewright.compiler.ir.types import DType, TensorType


@onnx_op("Gather")
def _gather(ctx: Import, node: Node) -> Value:
    x, indices = node.input(0), node.input(1)
    axis = node.axis(node.attr("axis", 0), x.rank)
    table = ctx.dequantized.get(x)
    if table is not None and table.axis is None:
        # What is looked up is dequantized instead of the whole table.
        taken = ctx.emit(Gather, x=table.x, indices=indices, axis=axis)
        return real(ctx, Dequantized(taken, table.scale, table.zero, None))
    return ctx.emit(Gather, x=x, indices=indices, axis=axis)


@onnx_op("GatherElements")
def _gather_elements(ctx: Import, node: Node) -> Value:
    x, indices = node.input(0), node.input(1)
    axis = node.axis(node.attr("axis", 0), x.rank)
    return ctx.emit(GatherElements, x=x, indices=indices, axis=axis)


@onnx_op("GatherND")
def _gather_nd(ctx: Import, node: Node) -> Value:
    x, indices, batch = node.input(0), node.input(1), node.attr("batch_dims", 0)
    common = [ctx.unify(x.shape[i], indices.shape[i], "batch_dims") for i in range(batch)]
    x = ctx.relabel(x, (*common, *x.shape[batch:]), "batch_dims")
    indices = ctx.relabel(indices, (*common, *indices.shape[batch:]), "batch_dims")
    return ctx.emit(GatherNd, x=x, indices=indices, batch_dims=batch)


def _reduction(ctx: Import, node: Node) -> str:
    name: str = node.attr("reduction", "none")
    if name not in ("none", "add", "mul", "min", "max"):
        ctx.fail(node, f"reduction {name!r} is unknown")
    return name


@onnx_op("ScatterElements", "Scatter")
def _scatter_elements(ctx: Import, node: Node) -> Value:
    x, indices, updates = node.input(0), node.input(1), node.input(2)
    updates = ctx.relabel(updates, indices.shape, "indices and updates")
    axis = node.axis(node.attr("axis", 0), x.rank)
    reduction = _reduction(ctx, node)
    return ctx.emit(
        ScatterElements, x=x, indices=indices, updates=updates, axis=axis, reduction=reduction
    )


@onnx_op("ScatterND")
def _scatter_nd(ctx: Import, node: Node) -> Value:
    x, indices, updates = node.input(0), node.input(1), node.input(2)
    depth = indices.shape[-1]
    if not isinstance(depth, int):
        ctx.fail(node, "the last dimension of indices must be known", f"{indices.type}")
    want = (*indices.shape[:-1], *x.shape[depth:])
    if len(want) != updates.rank:
        ctx.fail(node, "updates do not fit", f"expected {list(map(str, want))}, {updates.type}")
    updates = ctx.relabel(updates, want, "indices and updates")
    reduction = _reduction(ctx, node)
    return ctx.emit(ScatterNd, x=x, indices=indices, updates=updates, reduction=reduction)


@onnx_op("OneHot")
def one_hot(ctx: Import, node: Node) -> Value:
    """Indices below 0 count from the end; those outside give a row of off values."""
    indices, values = Term(ctx, node.input(0)), Term(ctx, node.input(2))
    depth_value = node.input(1)
    known = ctx.number(depth_value)
    found = [int(known)] if known is not None else ctx.dims_of(depth_value)
    hint = node.hint()
    axis = node.axis(node.attr("axis", -1), indices.rank + 1)
    if found is not None:
        depth: Dim = found[0]
    elif hint is not None and hint.static is not None:
        depth = hint.static[axis]
    else:
        advice = "make depth a constant, or an integer input of the model"
        ctx.fail(node, "depth is computed from data", f"depth: {depth_value.type}", advice)
    if hint is not None and hint.dims is not None and len(hint.dims) == indices.rank + 1:
        want = hint.dims[axis]
        if isinstance(want, int) and not isinstance(depth, int) and not ctx.is_data(depth):
            ctx.constrain(depth, want, f"{node.where}: depth must be the declared {want}")
            depth = want
    wide = indices.cast(DType.I64)
    wide = (wide < 0).where(wide + size_of(ctx, depth), wide, DType.I64)
    spread = [*wide.dims[:axis], 1, *wide.dims[axis:]]
    ramp: list[Dim] = [1] * len(spread)
    ramp[axis] = depth
    hot = wide.reshape(*spread).equals(iota(ctx, depth).reshape(*ramp))
    off, on = (values.slice(0, i, 1).reshape() for i in (0, 1))
    return hot.where(on, off, values.dtype).value


@onnx_op("NonZero")
def _non_zero(ctx: Import, node: Node) -> Value:
    x = node.input(0)
    count = ctx.data_symbol(f"nonzero_{len(ctx.symbols)}", x.type.elements)
    return ctx.emit(NonZero, x=x, count=count)


@onnx_op("Compress")
def _compress(ctx: Import, node: Node) -> Value:
    x, condition = node.input(0), node.input(1)
    axis = node.attr("axis", None)
    if axis is None:
        x, axis = ctx.reshape(x, (x.type.elements,)), 0
    axis = node.axis(axis, x.rank)
    count = ctx.data_symbol(f"compressed_{len(ctx.symbols)}", x.shape[axis])
    return ctx.emit(Compress, x=x, condition=condition, axis=axis, count=count)


@onnx_op("Unique")
def unique(ctx: Import, node: Node) -> tuple[Value, ...]:
    """Custom `unique`: values, first indices, inverse indices and counts."""
    x, axis = node.input(0), node.attr("axis", None)
    if axis is None:
        x, axis = ctx.reshape(x, (x.type.elements,)), 0
    axis = node.axis(axis, x.rank)
    size = x.shape[axis]
    count = ctx.data_symbol(f"unique_{len(ctx.symbols)}", size)
    values = TensorType(x.dtype, (*x.shape[:axis], count, *x.shape[axis + 1 :]))
    per_value, per_entry = TensorType(DType.I64, (count,)), TensorType(DType.I64, (size,))
    return ctx.emit_multi(
        Custom,
        inputs=(x,),
        kind="unique",
        types=(values, per_value, per_entry, per_value),
        params=(("axis", axis), ("sorted", bool(node.attr("sorted", 1)))),
    )

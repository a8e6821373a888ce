"""Operators whose kernels are their own: non-maximum suppression and determinants."""

from tilewright.compiler.frontend.context import Import
from tilewright.compiler.frontend.node import Node
from tilewright.compiler.frontend.registry import onnx_op
from tilewright.compiler.ir.core import Value
from tilewright.compiler.ir.ops import control
from tilewright.compiler.ir.types import DType, TensorType


@onnx_op("NonMaxSuppression")
def non_max_suppression(ctx: Import, node: Node) -> Value:
    """boxes: [B, S, 4], scores: [B, C, S] -> i64 [count, 3] of (batch, class, box), best first.

    The custom operation gets the limits as scalars: boxes per class, overlap, least score.
    """
    boxes, scores = node.input(0), node.input(1)
    defaults = ((2, 0, DType.I64), (3, 0.0, DType.F32), (4, float("-inf"), DType.F32))
    limits = []
    for index, default, dtype in defaults:
        value = node.maybe(index)
        scalar = ctx.scalar(default, dtype) if value is None else ctx.reshape(value, ())
        limits.append(ctx.cast(scalar, dtype))
    batch = ctx.unify(boxes.shape[0], scores.shape[0], "the batch of boxes and scores")
    ctx.unify(boxes.shape[1], scores.shape[2], "the number of boxes and scores")
    most = batch * scores.shape[1] * boxes.shape[1]
    count = ctx.data_symbol("selected", most)
    return ctx.emit(
        control.Custom,
        inputs=(boxes, scores, *limits),
        kind="non_max_suppression",
        types=(TensorType(DType.I64, (count, 3)),),
        params=(("center_point_box", bool(node.attr("center_point_box", 0))),),
    )


@onnx_op("Det")
def det(ctx: Import, node: Node) -> Value:
    """x: [.., M, M] -> [..]: determinants."""
    x = node.input(0)
    if x.rank < 2:
        ctx.fail(node, f"x must be a matrix, found {x.type}")
    ctx.unify(x.shape[-1], x.shape[-2], "the sides of the matrix")
    return ctx.emit(
        control.Custom,
        inputs=(x,),
        kind="det",
        types=(TensorType(x.dtype, x.shape[:-2]),),
    )

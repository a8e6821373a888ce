"""Softmax and its relatives."""

from collections.abc import Callable

from tilewright.compiler.frontend.context import Import
from tilewright.compiler.frontend.node import Node
from tilewright.compiler.frontend.registry import onnx_op
from tilewright.compiler.frontend.terms import Term, iota
from tilewright.compiler.ir.core import Value
from tilewright.compiler.ir.dims import product
from tilewright.compiler.ir.ops import reduce


def _along(ctx: Import, node: Node, apply: Callable[[Term, int], Term]) -> Value:
    """`apply(x, axis)`; before opset 13 the axes from `axis` on act as one."""
    x = Term(ctx, node.input(0))
    if node.opset >= 13:
        return apply(x, node.axis(node.attr("axis", -1), x.rank)).value
    axis = node.attr("axis", 1)
    axis = axis + x.rank if axis < 0 else axis
    flat = x.reshape(product(x.dims[:axis]), product(x.dims[axis:]))
    return apply(flat, 1).reshape(*x.dims).value


@onnx_op("Softmax")
def softmax(ctx: Import, node: Node) -> Value:
    """`exp(x - max x) / sum exp(x - max x)` along axis."""
    return _along(ctx, node, lambda x, axis: x.softmax(axis))


@onnx_op("LogSoftmax")
def log_softmax(ctx: Import, node: Node) -> Value:
    """The logarithm of softmax along axis."""
    return _along(ctx, node, lambda x, axis: x.softmax(axis, log=True))


@onnx_op("Hardmax")
def hardmax(ctx: Import, node: Node) -> Value:
    """1 at the first maximum along axis, 0 elsewhere."""
    return _along(ctx, node, lambda x, axis: _hardmax(ctx, x, axis))


def _hardmax(ctx: Import, x: Term, axis: int) -> Term:
    best = x.apply(reduce.ArgReduce, kind="max", axis=axis, keepdims=True)
    places = iota(ctx, x.dims[axis])
    places = places.reshape(*(d if i == axis else 1 for i, d in enumerate(x.dims)))
    return best.equals(places).cast(x.dtype)

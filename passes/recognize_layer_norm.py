"""Layer normalization from its parts (Ba, Kiros, Hinton 2016)."""

from tilewright.compiler.ir.core import Graph, Op, Value
from tilewright.compiler.ir.ops.binary import Add, Div, Mul, Sub
from tilewright.compiler.ir.ops.nn import LayerNorm
from tilewright.compiler.ir.ops.unary import Sqrt
from tilewright.compiler.ir.rewrite import Builder, Replacement, rewrite
from tilewright.passes.match import (
    fits_suffix,
    inverse_sqrt,
    is_square,
    made_by,
    plus,
    sides,
    suffix_mean,
)
from tilewright.passes.registry import graph_pass
from tilewright.passes.remove_dead_code import remove_dead_code


@graph_pass
def recognize_layer_norm(graph: Graph) -> Graph:
    """Find normalizations with mean and variance over the last axes.

        d = x - mean(x); d / sqrt(mean(d * d) + eps)    ->  layer_norm(x)
        d * (1 / sqrt(...))                             ->  layer_norm(x)
        layer_norm(x) * scale, layer_norm(x) + bias     ->  layer_norm(x, scale, bias)

    Requires: nothing.
    Ensures: no centred x divided by the root of its own variance.
    Leaves alone: scales and biases that vary along the axes that are not normalized; a scale after
        a bias; statistics over axes that are not the last ones.
    """

    def rule(op: Op, builder: Builder) -> Replacement:
        if isinstance(op, Mul | Div) and (found := _normalized(op, builder)):
            x, axis, eps = found
            return (builder.emit(LayerNorm, x=x, axis=axis, eps=eps),)
        if isinstance(op, Mul | Add):
            return _affine(op, builder)
        return None

    after = rewrite(graph, rule)
    return graph if after is graph else remove_dead_code(after)


def _normalized(op: Mul | Div, builder: Builder) -> tuple[Value, int, float] | None:
    pairs: list[tuple[Value, Value]] = []  # (d, variance + eps)
    if isinstance(op, Div) and isinstance(op.b.op, Sqrt):
        pairs.append((op.a, op.b.op.x))
    if isinstance(op, Mul):
        for d, factor in sides(op):
            inside = inverse_sqrt(builder, factor)
            if inside is not None:
                pairs.append((d, inside))
    for d, inside in pairs:
        centred, sum_ = made_by(d, Sub), plus(builder, inside)
        if centred is None or sum_ is None:
            continue
        mean, variance = suffix_mean(centred.b), suffix_mean(sum_[0])
        if mean is None or variance is None or mean[0] is not centred.a:
            continue
        if mean[1] == variance[1] and is_square(builder, variance[0], d):
            return centred.a, mean[1], sum_[1]
    return None


def _affine(op: Mul | Add, builder: Builder) -> Replacement:
    for y, other in sides(op):
        norm = made_by(y, LayerNorm)
        if norm is None or not fits_suffix(other, norm.x.shape, norm.axis) or other.rank == 0:
            continue
        fields = {"x": norm.x, "axis": norm.axis, "eps": norm.eps}
        if isinstance(op, Mul) and norm.scale is None and norm.bias is None:
            return (builder.emit(LayerNorm, scale=other, **fields),)
        if isinstance(op, Add) and norm.bias is None:
            return (builder.emit(LayerNorm, scale=norm.scale, bias=other, **fields),)
    return None

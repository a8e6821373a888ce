"""Root-mean-square normalization from its parts (Zhang, Sennrich 2019)."""

from tilewright.compiler.ir.core import Graph, Op, Value
from tilewright.compiler.ir.ops.binary import Div, Mul
from tilewright.compiler.ir.ops.nn import RmsNorm
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
def recognize_rms_norm(graph: Graph) -> Graph:
    """Find divisions by the root of the mean square over the last axes.

        x / sqrt(mean(x * x) + eps)     ->  rms_norm(x)
        x * (1 / sqrt(...))             ->  rms_norm(x)         (also pow(.., -0.5))
        rms_norm(x) * scale             ->  rms_norm(x, scale)

    Requires: recognize-layer-norm.
    Ensures: no x divided by the root of its own mean square.
    Leaves alone: scales that vary along the axes that are not normalized.
    """

    def rule(op: Op, builder: Builder) -> Replacement:
        if isinstance(op, Mul | Div) and (found := _normalized(op, builder)):
            x, axis, eps = found
            return (builder.emit(RmsNorm, x=x, axis=axis, eps=eps),)
        if isinstance(op, Mul):
            for y, scale in sides(op):
                norm = made_by(y, RmsNorm)
                if norm is None or norm.scale is not None or scale.rank == 0:
                    continue
                if fits_suffix(scale, norm.x.shape, norm.axis):
                    fields = {"x": norm.x, "axis": norm.axis, "eps": norm.eps}
                    return (builder.emit(RmsNorm, scale=scale, **fields),)
        return None

    after = rewrite(graph, rule)
    return graph if after is graph else remove_dead_code(after)


def _normalized(op: Mul | Div, builder: Builder) -> tuple[Value, int, float] | None:
    pairs: list[tuple[Value, Value]] = []
    if isinstance(op, Div) and isinstance(op.b.op, Sqrt):
        pairs.append((op.a, op.b.op.x))
    if isinstance(op, Mul):
        for x, factor in sides(op):
            inside = inverse_sqrt(builder, factor)
            if inside is not None:
                pairs.append((x, inside))
    for x, inside in pairs:
        sum_ = plus(builder, inside)
        mean = suffix_mean(sum_[0]) if sum_ else None
        if sum_ and mean and is_square(builder, mean[0], x):
            return x, mean[1], sum_[1]
    return None

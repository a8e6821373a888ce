"""Per-channel scales and shifts after a contraction move into its weights."""

from collections.abc import Callable

import numpy as np

from tilewright.compiler.ir.core import Graph, Op, Value, users
from tilewright.compiler.ir.ops.binary import Add, Div, Mul, Sub
from tilewright.compiler.ir.ops.contraction import Contract, Conv
from tilewright.compiler.ir.rewrite import Builder, Replacement, rewrite
from tilewright.compiler.ir.types import DType
from tilewright.passes.match import constant_array, made_by, sides
from tilewright.passes.registry import graph_pass
from tilewright.passes.remove_dead_code import remove_dead_code


@graph_pass
def fold_batch_norm(graph: Graph) -> Graph:
    """Multiply constant channel scales into constant weights; join constant channel shifts.

        mul(conv(x, w), s [C])            ->  conv(x, w * s)
        mul(add(conv(x, w), t), s)        ->  add(conv(x, w * s), t * s)
        add(add(conv(x, w), t), u)        ->  add(conv(x, w), t + u)
        sub and div by constants          ->  the same with -u and 1/s

    The arithmetic on weights is done in f64 and rounded once.

    Requires: nothing.
    Ensures: a contraction of constant weights is followed by at most one constant shift and no
        constant scale, along its last axis.
    Leaves alone: contractions whose result has another use; weights that another operation uses
        too; element types other than f32 and f64.
    """
    while (after := _once(graph)) is not graph:  # a joined shift may let the next scale move
        graph = after
    return graph


def _once(graph: Graph) -> Graph:
    used = users(graph.ops)
    outputs = set(graph.outputs)

    def single(value: Value) -> bool:
        return len(used.get(value, ())) == 1 and value not in outputs

    def rule(op: Op, builder: Builder) -> Replacement:
        if not isinstance(op, Mul | Div | Add | Sub) or op.out.dtype not in (DType.F32, DType.F64):
            return None
        original = builder.original
        assert isinstance(original, Mul | Div | Add | Sub)
        pairs = [*zip(sides(op), sides(original), strict=True)]
        if isinstance(op, Div | Sub):
            pairs = pairs[:1]
        for (x, other), (before, _) in pairs:
            channel = _channels(x, other, builder)
            if channel is None or not single(before):
                continue
            if isinstance(op, Add | Sub):
                found = _shifted(x, channel if isinstance(op, Add) else -channel, op, builder)
            elif isinstance(op, Div) and not channel.all():
                found = None
            else:
                factor = channel if isinstance(op, Mul) else 1.0 / channel
                found = _scaled(x, factor, builder, before, single)
            if found is not None:
                return (found,)
        return None

    after = rewrite(graph, rule)
    return graph if after is graph else remove_dead_code(after)


def _channels(x: Value, other: Value, builder: Builder) -> np.ndarray | None:
    """The constant `other` as f64[C] along the last axis of x, if it varies along nothing else."""
    if x.rank == 0 or other.rank > x.rank or not isinstance(x.shape[-1], int):
        return None
    if other.rank and any(d != 1 for d in other.shape[:-1]):
        return None
    array = constant_array(builder, other)
    if array is None:
        return None
    return np.broadcast_to(array.reshape(-1).astype(np.float64), (x.shape[-1],))


def _shifted(x: Value, shift: np.ndarray, op: Op, builder: Builder) -> Value | None:
    """`x + shift` as one add, when x is already a shifted contraction (or a subtraction)."""
    inner = made_by(x, Add)
    if inner is not None:
        for product, bias in sides(inner):
            if isinstance(product.op, Contract | Conv) and product.type == x.type:
                channel = _channels(product, bias, builder)
                if channel is not None:
                    return _plus(product, channel + shift, builder)
    if isinstance(op, Sub) and isinstance(x.op, Contract | Conv):
        return _plus(x, shift, builder)
    return None


def _plus(x: Value, shift: np.ndarray, builder: Builder) -> Value:
    bias = builder.constant(shift.astype(x.dtype.numpy), "bias")
    return builder.emit(Add, a=x, b=bias)


def _scaled(
    x: Value,
    factor: np.ndarray,
    builder: Builder,
    before: Value,
    single: Callable[[Value], bool],
) -> Value | None:
    op = x.op
    if isinstance(op, Add):
        original = made_by(before, Add)
        for index, (product, bias) in enumerate(sides(op)):
            channel = _channels(product, bias, builder)
            if original is None or channel is None or product.type != x.type:
                continue
            inner = (original.a, original.b)[index]
            scaled = _weighted(product, factor, builder) if single(inner) else None
            if scaled is not None:
                return _plus(scaled, channel * factor, builder)
        return None
    return _weighted(x, factor, builder)


def _weighted(x: Value, factor: np.ndarray, builder: Builder) -> Value | None:
    """The contraction `x` with its constant weights multiplied along the last result axis."""
    op = x.op
    if isinstance(op, Conv) and op.body is None:
        weights = builder.array(op.w)
        if weights is None:
            return None
        w = builder.constant((weights * factor).astype(weights.dtype), "scaled")
        fields = {name: getattr(op, name) for name in op.attr_fields}
        return builder.emit(Conv, x=op.x, w=w, fill=op.fill, **fields)
    if isinstance(op, Contract) and op.body is None:
        inputs, out = op.spec.split("->")
        ia, ib = inputs.split(",")
        weights = builder.array(op.b)
        if weights is None or not out or out[-1] not in ib or out[-1] in ia:
            return None
        shape = [-1 if letter == out[-1] else 1 for letter in ib]
        scaled = weights * factor.reshape(shape)
        w = builder.constant(scaled.astype(weights.dtype), "scaled")
        return builder.emit(Contract, a=op.a, b=w, spec=op.spec)
    return None

"""Moving transposes down the graph until they meet their inverse."""

from collections.abc import Callable
from typing import Any

from tilewright.compiler.ir.core import Graph, Op, Value, users, walk
from tilewright.compiler.ir.dims import Dim
from tilewright.compiler.ir.ops.contraction import Contract
from tilewright.compiler.ir.ops.leaf import Constant, Fill
from tilewright.compiler.ir.ops.nn import Attention, LayerNorm, RmsNorm, Rope, Softmax
from tilewright.compiler.ir.ops.reduce import Reduce
from tilewright.compiler.ir.ops.shape import Broadcast, Concat, Pad, Reshape, Slice, Transpose
from tilewright.compiler.ir.rewrite import Builder, Replacement, rewrite, with_operands
from tilewright.passes.match import made_by
from tilewright.passes.op_sets import BROADCASTING, UNARY
from tilewright.passes.registry import graph_pass
from tilewright.passes.remove_dead_code import remove_dead_code
from tilewright.passes.share_common_subexpressions import share_common_subexpressions

Perm = tuple[int, ...]


@graph_pass
def cancel_transposes(graph: Graph) -> Graph:
    """Sink transposes below operations that do not care, so that inverse pairs meet and vanish.

        relu(transpose(x))                             ->  transpose(relu(x))
        add(transpose(x), transpose(y)), same order    ->  transpose(add(x, y))
        mul(transpose(x), constant)                    ->  transpose(mul(x, reordered constant))
        the same for concat, slice, pad, reduce, softmax, norms and rope (axes renumbered)
        transpose(transpose(x)) of inverse orders      ->  x

    A chain of channels-last convolutions keeps only the transpose at its entry.

    Requires: nothing.
    Ensures: no transpose feeds only an operation of the list above, unless that saves nothing.
    Leaves alone: operations with an operand of another order; the whole graph when it would not
        have fewer transposes afterwards.
    """

    def rule(op: Op, builder: Builder) -> Replacement:
        if isinstance(op, Transpose):
            inner = made_by(op.x, Transpose)
            if inner is None:
                return None
            return (_transposed(builder, inner.x, tuple(inner.perm[p] for p in op.perm)),)
        if type(op) in UNARY or type(op) in BROADCASTING:
            return _elementwise(op, builder)
        sink = _RULES.get(type(op))
        return sink(op, builder) if sink else None

    after = rewrite(graph, rule)
    if after is graph:
        return graph
    after = remove_dead_code(share_common_subexpressions(remove_dead_code(after)))
    return after if _transposes(after) < _transposes(graph) else graph


def _transposes(graph: Graph) -> int:
    """The transposes that cost time: not those of constants, nor those that a spec takes over."""
    used = users(graph.ops)
    outputs = set(graph.outputs)
    count = 0
    for op in walk(graph.ops):
        if isinstance(op, Transpose) and not isinstance(op.x.op, Constant | Fill):
            readers = used.get(op.out, [])
            free = op.out not in outputs and all(
                isinstance(u, Contract | Attention) for u in readers
            )
            count += not free and not _trivial(op)
    return count


def _trivial(op: Transpose) -> bool:
    """Only axes of size 1 move: a reshape does the same."""
    real = [p for p in op.perm if op.x.shape[p] != 1]
    return real == sorted(real)


def _transposed(builder: Builder, x: Value, perm: Perm) -> Value:
    if perm == tuple(range(len(perm))):
        return x
    return builder.emit(Transpose, x=x, perm=perm)


def _inverse(perm: Perm) -> Perm:
    return tuple(perm.index(i) for i in range(len(perm)))


def _source(values: tuple[Value, ...], rank: int) -> Perm | None:
    """The order that all transposed operands of this rank share, if there is one."""
    perms = {t.perm for v in values if (t := made_by(v, Transpose)) and v.rank == rank}
    return perms.pop() if len(perms) == 1 else None


def _before(builder: Builder, value: Value, perm: Perm) -> Value | None:
    """What to use for operand `value` when the operation runs in the order before `perm`.

    Constants and broadcast vectors are reordered; None when that would need a real transpose.
    """
    transpose = made_by(value, Transpose)
    if transpose is not None and transpose.perm == perm:
        return transpose.x
    if value.type.elements == 1:
        return value
    shape: tuple[Dim, ...] = (1,) * (len(perm) - value.rank) + value.shape
    order = _inverse(perm)
    target = tuple(shape[p] for p in order)
    real = [p for p in order if shape[p] != 1]
    if real == sorted(real):
        while len(target) > 1 and target[0] == 1:
            target = target[1:]
        return value if target == value.shape else builder.emit(Reshape, x=value, shape=target)
    if isinstance(value.op, Constant | Fill):
        full = builder.emit(Reshape, x=value, shape=shape) if shape != value.shape else value
        return builder.emit(Transpose, x=full, perm=order)
    return None


def _elementwise(op: Op, builder: Builder) -> Replacement:
    rank = op.results[0].rank
    perm = _source(op.operands, rank)
    if perm is None:
        return None
    mapping: dict[Value, Value] = {}
    for value in op.operands:
        moved = _before(builder, value, perm)
        if moved is None:
            return None
        mapping[value] = moved
    return (_apply(op, mapping, perm, builder),)


def _apply(op: Op, mapping: dict[Value, Value], perm: Perm, builder: Builder) -> Value:
    made = with_operands(op, mapping, {})
    builder.ops.append(made)
    return _transposed(builder, made.results[0], perm)


def _concat(op: Concat, builder: Builder) -> Replacement:
    perm = _source(op.parts, op.out.rank)
    if perm is None:
        return None
    parts: list[Value] = []
    for value in op.parts:
        transpose = made_by(value, Transpose)
        if transpose is None or transpose.perm != perm:
            return None
        parts.append(transpose.x)
    made = builder.emit(Concat, parts=tuple(parts), axis=perm[op.axis])
    return (_transposed(builder, made, perm),)


def _slice(op: Slice, builder: Builder) -> Replacement:
    transpose = made_by(op.x, Transpose)
    if transpose is None:
        return None
    order = _inverse(transpose.perm)
    made = builder.emit(
        Slice,
        x=transpose.x,
        starts=tuple(op.starts[p] for p in order),
        steps=tuple(op.steps[p] for p in order),
        shape=tuple(op.shape[p] for p in order),
    )
    return (_transposed(builder, made, transpose.perm),)


def _pad(op: Pad, builder: Builder) -> Replacement:
    transpose = made_by(op.x, Transpose)
    if transpose is None:
        return None
    order = _inverse(transpose.perm)
    made = builder.emit(
        Pad,
        x=transpose.x,
        value=op.value,
        low=tuple(op.low[p] for p in order),
        high=tuple(op.high[p] for p in order),
        mode=op.mode,
    )
    return (_transposed(builder, made, transpose.perm),)


def _reduce(op: Reduce, builder: Builder) -> Replacement:
    transpose = made_by(op.x, Transpose)
    if transpose is None:
        return None
    perm = transpose.perm
    axes = tuple(sorted(perm[a] for a in op.axes))
    made = builder.emit(Reduce, x=transpose.x, kind=op.kind, axes=axes, keepdims=op.keepdims)
    if op.keepdims:
        return (_transposed(builder, made, perm),)
    kept = [p for i, p in enumerate(perm) if i not in op.axes]
    return (_transposed(builder, made, tuple(sorted(kept).index(p) for p in kept)),)


def _softmax(op: Softmax, builder: Builder) -> Replacement:
    transpose = made_by(op.x, Transpose)
    if transpose is None:
        return None
    axis = transpose.perm[op.axis]
    if (axis == op.x.rank - 1) != (op.axis == op.x.rank - 1):
        return None  # a row softmax must stay one
    made = builder.emit(Softmax, x=transpose.x, axis=axis, log=op.log)
    return (_transposed(builder, made, transpose.perm),)


def _norm(op: LayerNorm | RmsNorm, builder: Builder) -> Replacement:
    """Norms sink when the normalized axes stay where they are."""
    transpose = made_by(op.x, Transpose)
    if transpose is None or transpose.perm[op.axis :] != tuple(range(op.axis, op.x.rank)):
        return None
    return (_apply(op, {op.x: transpose.x}, transpose.perm, builder),)


def _rope(op: Rope, builder: Builder) -> Replacement:
    transpose = made_by(op.x, Transpose)
    if transpose is None or transpose.perm[-1] != op.x.rank - 1:
        return None
    mapping = {op.x: transpose.x}
    for table in (op.cos, op.sin):
        moved = _before(builder, table, transpose.perm)
        if moved is None:
            return None
        mapping[table] = moved
    return (_apply(op, mapping, transpose.perm, builder),)


def _broadcast(op: Broadcast, builder: Builder) -> Replacement:
    transpose = made_by(op.x, Transpose)
    if transpose is None or op.x.rank != op.out.rank:
        return None
    shape = tuple(op.shape[p] for p in _inverse(transpose.perm))
    made = builder.emit(Broadcast, x=transpose.x, shape=shape)
    return (_transposed(builder, made, transpose.perm),)


_RULES: dict[type[Op], Callable[[Any, Builder], Replacement]] = {
    Concat: _concat,
    Slice: _slice,
    Pad: _pad,
    Reduce: _reduce,
    Softmax: _softmax,
    LayerNorm: _norm,
    RmsNorm: _norm,
    Rope: _rope,
    Broadcast: _broadcast,
}

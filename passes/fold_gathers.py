"""Gathers with known indices are slices and reshapes."""

from tilewright.compiler.ir.core import Graph, Op, Value
from tilewright.compiler.ir.dims import Dim
from tilewright.compiler.ir.ops.leaf import Iota
from tilewright.compiler.ir.ops.shape import (
    Broadcast,
    Concat,
    Gather,
    GatherElements,
    GatherNd,
    Reshape,
    Slice,
)
from tilewright.compiler.ir.rewrite import Builder, Replacement, rewrite
from tilewright.passes.match import constant_array, made_by
from tilewright.passes.registry import graph_pass
from tilewright.passes.remove_dead_code import remove_dead_code


@graph_pass
def fold_gathers(graph: Graph) -> Graph:
    """Replace gathers whose indices are constants in a row, or counters.

        gather(x, 3)                                         ->  reshape(slice(x))
        gather(x, [4, 5, 6])                                 ->  slice(x)
        gather(x, iota)                                      ->  x
        gather_nd(x, (iota over axis 0, iota over axis 1))   ->  reshape(x)
        gather_elements(x, [4, 5, 6] along the only axis longer than 1)  ->  slice(x)

    Requires: fold-constants.
    Ensures: no gather of one constant index, or of consecutive ones, that are in range.
    Leaves alone: indices that the data decide; constants out of range (the run reports them).
    """

    def rule(op: Op, builder: Builder) -> Replacement:
        found: Value | None = None
        if isinstance(op, Gather):
            found = _gather(op, builder)
        elif isinstance(op, GatherNd) and op.batch_dims == 0:
            found = _gather_nd(op, builder)
        elif isinstance(op, GatherElements):
            found = _gather_elements(op, builder)
        return None if found is None else (found,)

    after = rewrite(graph, rule)
    return graph if after is graph else remove_dead_code(after)


def _consecutive(value: Value, size: Dim, builder: Builder) -> tuple[int, int] | None:
    """(first, count) of constant indices in a row that are in range of a known dimension."""
    array = constant_array(builder, value)
    if array is None or not isinstance(size, int) or array.size == 0:
        return None
    flat = [int(i) + size if i < 0 else int(i) for i in array.reshape(-1)]
    if flat != list(range(flat[0], flat[0] + len(flat))) or flat[0] < 0 or flat[-1] >= size:
        return None
    return flat[0], len(flat)


def _cut(x: Value, axis: int, first: int, count: int, builder: Builder) -> Value:
    starts = tuple(first if i == axis else 0 for i in range(x.rank))
    shape = tuple(count if i == axis else d for i, d in enumerate(x.shape))
    return builder.emit(Slice, x=x, starts=starts, steps=(1,) * x.rank, shape=shape)


def _gather(op: Gather, builder: Builder) -> Value | None:
    counter = _counter_axis(op.indices)
    if op.indices.rank == 1 and counter == (0, op.x.shape[op.axis]):
        return op.x
    found = _consecutive(op.indices, op.x.shape[op.axis], builder)
    if found is None:
        return None
    part = _cut(op.x, op.axis, *found, builder)
    return part if part.type == op.out.type else _shaped(part, op.out.shape, builder)


def _shaped(value: Value, shape: tuple[Dim, ...], builder: Builder) -> Value:
    return builder.emit(Reshape, x=value, shape=shape)


def _gather_elements(op: GatherElements, builder: Builder) -> Value | None:
    others = [d for i, d in enumerate(op.x.shape) if i != op.axis]
    if any(d != 1 for d in others) or op.out.rank != op.x.rank:
        return None
    found = _consecutive(op.indices, op.x.shape[op.axis], builder)
    return None if found is None else _cut(op.x, op.axis, *found, builder)


def _gather_nd(op: GatherNd, builder: Builder) -> Value | None:
    """Index tuples that count through all of x in order leave x as it is."""
    tuples = made_by(op.indices, Concat)
    if tuples is None or tuples.axis != op.indices.rank - 1 or len(tuples.parts) != op.x.rank:
        return None
    axes: list[int] = []
    for part, size in zip(tuples.parts, op.x.shape, strict=True):
        found = _counter_axis(part)
        if found is None or found[1] != size:
            return None
        axes.append(found[0])
    shape = op.out.shape
    rest = [d for i, d in enumerate(shape) if i not in axes]
    if axes != sorted(set(axes)) or any(d != 1 for d in rest):
        return None
    return _shaped(op.x, shape, builder)


def _counter_axis(value: Value) -> tuple[int, Dim] | None:
    """(axis, length) when `value[i, j, ..]` is the index along one axis."""
    op = value.op
    if isinstance(op, Iota):
        return 0, op.length
    if isinstance(op, Broadcast):
        inner = _counter_axis(op.x)
        if inner is None:
            return None
        axis = inner[0] + value.rank - op.x.rank
        return (axis, inner[1]) if value.shape[axis] == inner[1] else None
    if isinstance(op, Reshape):
        inner = _counter_axis(op.x)
        if inner is None:
            return None
        real_in = [i for i, d in enumerate(op.x.shape) if d != 1]
        real_out = [i for i, d in enumerate(op.shape) if d != 1]
        same = [op.x.shape[i] for i in real_in] == [op.shape[i] for i in real_out]
        if not same or inner[0] not in real_in:
            return None
        return real_out[real_in.index(inner[0])], inner[1]
    return None

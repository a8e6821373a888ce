"""Simplification of operations that only move elements."""

from collections.abc import Callable
from typing import Any

from tilewright.compiler.ir.core import Graph, Op, Value
from tilewright.compiler.ir.dims import bounds, floordiv
from tilewright.compiler.ir.ops.leaf import Constant, Fill
from tilewright.compiler.ir.ops.shape import Broadcast, Concat, Pad, Reshape, Slice, Transpose
from tilewright.compiler.ir.ops.unary import Cast
from tilewright.compiler.ir.rewrite import Builder, Replacement, rewrite, with_operands
from tilewright.compiler.ir.types import DType
from tilewright.passes.axis_groups import axis_groups, divides
from tilewright.passes.match import made_by
from tilewright.passes.op_sets import BROADCASTING, ELEMENTWISE
from tilewright.passes.registry import graph_pass
from tilewright.passes.remove_dead_code import remove_dead_code


@graph_pass
def fold_shapes(graph: Graph) -> Graph:
    """Drop moves that move nothing and join those that follow each other.

        reshape(reshape(x))                        ->  reshape(x)
        transpose(transpose(x))                    ->  transpose(x)
        reshape(transpose(reshape(x))) that swaps whole groups of x's axes  ->  transpose(x)
        transpose(x) that moves only axes of size 1  ->  reshape(x)
        slice(concat(a, b)) inside one part        ->  slice(part)
        reshape(slice(x)) that splits the last axis  ->  slice(reshape(x))  (a view of both)
        add(broadcast(x), y)                       ->  add(x, y)       (y decides the shape)
        exp(broadcast(x)), mul(broadcast(x), 2)    ->  broadcast(exp(x)), broadcast(mul(x, 2))
        reshape, transpose, slice, broadcast or cast of a fill  ->  fill

    Requires: nothing.
    Ensures: none of the pictures on the left remains.
    Leaves alone: a broadcast that decides the shape of the result; casts that round.
    """

    def rule(op: Op, builder: Builder) -> Replacement:
        if type(op) in ELEMENTWISE and (found := _late_broadcast(op, builder)):
            return found
        if type(op) in BROADCASTING:
            return _implied_broadcast(op, builder)
        simplify = _RULES.get(type(op))
        if simplify is None:
            return None
        if op.results[0].type == op.operands[0].type and _keeps_all(op):
            return (op.operands[0],)
        simpler = simplify(op, builder, graph)
        return None if simpler is None else (simpler,)

    after = rewrite(graph, rule)
    return graph if after is graph else remove_dead_code(after)


def _keeps_all(op: Op) -> bool:
    """True when `op`, whose result has its operand's type, is the identity."""
    match op:
        case Transpose():
            return op.perm == tuple(range(len(op.perm)))
        case Slice():
            return all(s == 0 for s in op.starts) and all(s == 1 for s in op.steps)
        case Pad():
            return all(d == 0 for d in (*op.low, *op.high))
        case Concat():
            return len(op.parts) == 1
    return True


def _reshape(op: Reshape, builder: Builder, graph: Graph) -> Value | None:
    inner = op.x.op
    if isinstance(inner, Reshape):
        if inner.x.shape == op.shape:
            return inner.x
        return builder.emit(Reshape, x=inner.x, shape=op.shape)
    if isinstance(inner, Transpose) and isinstance(inner.x.op, Reshape):
        return _grouped_transpose(op, inner, inner.x.op, builder)
    if isinstance(inner, Slice):
        return _split_slice(op, inner, builder)
    return _fill(op, builder)


def _grouped_transpose(
    op: Reshape, transpose: Transpose, first: Reshape, builder: Builder
) -> Value | None:
    """The transpose of whole groups of axes that merging, transposing and splitting amounts to."""
    groups = axis_groups(first.x.shape, first.shape)
    if groups is None or any(len(merged) != 1 for _, merged in groups):
        return None
    perm = tuple(axis for p in transpose.perm for axis in groups[p][0])
    if tuple(first.x.shape[p] for p in perm) != op.shape:
        return None
    return builder.emit(Transpose, x=first.x, perm=perm)


def _split_slice(op: Reshape, inner: Slice, builder: Builder) -> Value | None:
    """[.., n] cut from the last axis and split in [.., h, d]: split first, so whole d are cut."""
    rank = inner.x.rank
    if rank == 0 or len(op.shape) != rank + 1 or any(s != 1 for s in inner.steps):
        return None
    d, whole, start = op.shape[-1], inner.x.shape[-1], inner.starts[-1]
    if not inner.shape[:-1] == inner.x.shape[:-1] == op.shape[:-2]:
        return None
    if any(s != 0 for s in inner.starts[:-1]) or not (divides(d, whole) and divides(d, start)):
        return None
    first = builder.emit(Reshape, x=inner.x, shape=(*op.shape[:-2], floordiv(whole, d), d))
    starts = (*inner.starts[:-1], floordiv(start, d), 0)
    return builder.emit(Slice, x=first, starts=starts, steps=(1,) * (rank + 1), shape=op.shape)


def _transpose(op: Transpose, builder: Builder, graph: Graph) -> Value | None:
    inner = made_by(op.x, Transpose)
    if inner is not None:
        perm = tuple(inner.perm[p] for p in op.perm)
        if perm == tuple(range(len(perm))):
            return inner.x
        return builder.emit(Transpose, x=inner.x, perm=perm)
    real = [p for p in op.perm if op.x.shape[p] != 1]
    if real == sorted(real):
        return builder.emit(Reshape, x=op.x, shape=op.out.shape)
    return _fill(op, builder)


def _broadcast(op: Broadcast, builder: Builder, graph: Graph) -> Value | None:
    inner = made_by(op.x, Broadcast)
    if inner is not None:
        return builder.emit(Broadcast, x=inner.x, shape=op.shape)
    return _fill(op, builder)


def _slice(op: Slice, builder: Builder, graph: Graph) -> Value | None:
    inner = op.x.op
    if isinstance(inner, Slice):
        starts = tuple(
            a + s * b for a, s, b in zip(inner.starts, inner.steps, op.starts, strict=True)
        )
        steps = tuple(a * b for a, b in zip(inner.steps, op.steps, strict=True))
        return builder.emit(Slice, x=inner.x, starts=starts, steps=steps, shape=op.shape)
    if isinstance(inner, Concat):
        return _slice_of_part(op, inner, builder, graph)
    return _fill(op, builder)


def _slice_of_part(op: Slice, concat: Concat, builder: Builder, graph: Graph) -> Value | None:
    axis = concat.axis
    if op.steps[axis] != 1:
        return None
    at: Any = 0
    for part in concat.parts:
        first = op.starts[axis] - at
        room = part.shape[axis] - first - op.shape[axis]
        low = [bounds(d, graph.bounds)[0] for d in (first, room)]
        if all(b is not None and b >= 0 for b in low):
            starts = (*op.starts[:axis], first, *op.starts[axis + 1 :])
            if op.shape == part.shape and all(s == 0 for s in starts):
                return part
            return builder.emit(Slice, x=part, starts=starts, steps=op.steps, shape=op.shape)
        at = at + part.shape[axis]
    return None


def _concat(op: Concat, builder: Builder, graph: Graph) -> Value | None:
    parts: list[Value] = []
    for part in op.parts:
        inner = made_by(part, Concat)
        parts += inner.parts if inner is not None and inner.axis == op.axis else [part]
    kept = [p for p in parts if p.shape[op.axis] != 0] or parts[:1]
    if len(kept) == 1:
        return kept[0]
    if len(kept) == len(op.parts) == len(parts):
        return None
    return builder.emit(Concat, parts=tuple(kept), axis=op.axis)


def _pad(op: Pad, builder: Builder, graph: Graph) -> Value | None:
    return None


def _cast(op: Cast, builder: Builder, graph: Graph) -> Value | None:
    inner = made_by(op.x, Cast)
    if inner is not None and _exact(inner.x.dtype, inner.dtype):
        if inner.x.dtype == op.dtype:
            return inner.x
        return builder.emit(Cast, x=inner.x, dtype=op.dtype, saturate=op.saturate)
    return _fill(op, builder)


_MANTISSA = {DType.F64: 53, DType.F32: 24, DType.F16: 11, DType.BF16: 8}
_EXPONENT = {DType.F64: 11, DType.F32: 8, DType.F16: 5, DType.BF16: 8}


def _exact(source: DType, target: DType) -> bool:
    """True when every value of `source` is a value of `target`."""
    if source == target:
        return True
    if source == DType.BOOL:
        return target.is_float or target.is_int
    if source.is_int and target.is_int:
        widens = target.bits > source.bits
        return widens and (source.kind == "uint" or target.kind == "int")
    if source in _MANTISSA and target in _MANTISSA:
        wide = _MANTISSA[target] >= _MANTISSA[source]
        return wide and _EXPONENT[target] >= _EXPONENT[source]
    if source.is_int and target in _MANTISSA:
        return source.bits <= _MANTISSA[target]
    return False


def _fill(op: Op, builder: Builder) -> Value | None:
    """A move of a fill is a fill; so is the broadcast of a constant with one element."""
    source = op.operands[0].op
    value: Any
    if isinstance(source, Fill):
        value = source.value
    elif isinstance(op, Broadcast) and isinstance(source, Constant) and source.type.elements == 1:
        array = builder.array(source.out)
        if array is None or array.dtype.kind not in "fiub":
            return None
        value = array.reshape(-1)[0].item()
    else:
        return None
    if isinstance(op, Cast):
        dtype = op.dtype
        if dtype == DType.BOOL:
            value = bool(value)
        elif isinstance(value, bool | int) and dtype in (DType.I32, DType.I64):
            value = int(value)
        elif dtype in (DType.F32, DType.F64) and isinstance(value, bool | int):
            value = float(value)
        else:
            return None
        if dtype == DType.I32 and not -(1 << 31) <= value < 1 << 31:
            return None
    return builder.emit(Fill, value=value, type=op.results[0].type)


def _late_broadcast(op: Op, builder: Builder) -> Replacement:
    """Compute before broadcasting when every operand is a single element or the same broadcast."""
    sources = {made_by(v, Broadcast) for v in op.operands if v.type.elements != 1}
    found = {s.x.shape for s in sources if s is not None}
    if None in sources or len(found) != 1:
        return None
    mapping = {s.out: s.x for s in sources if s is not None}
    made = with_operands(op, mapping, {})
    value, want = made.results[0], op.results[0].type
    if value.shape != found.pop():
        return None
    builder.ops.append(made)
    return (builder.emit(Broadcast, x=value, shape=want.shape),)


def _implied_broadcast(op: Op, builder: Builder) -> Replacement:
    """`op` without the broadcasts of operands that the other operands make anyway."""
    current = op
    for value in op.operands:
        source = made_by(value, Broadcast)
        if source is None:
            continue
        shapes = [v.shape for v in current.operands if v is not value]
        if not any(s == op.results[0].shape for s in shapes):
            continue
        current = with_operands(current, {value: source.x}, {})
    if current is op:
        return None
    builder.ops.append(current)
    return current.results


_RULES: dict[type[Op], Callable[[Any, Builder, Graph], Value | None]] = {
    Reshape: _reshape,
    Transpose: _transpose,
    Broadcast: _broadcast,
    Slice: _slice,
    Concat: _concat,
    Pad: _pad,
    Cast: _cast,
}

"""Rotary position embedding from its parts (Su et al. 2021, the form that splits in halves)."""

from tilewright.compiler.ir.core import Graph, Op, Value
from tilewright.compiler.ir.ops.binary import Add, Mul, Sub
from tilewright.compiler.ir.ops.nn import Rope
from tilewright.compiler.ir.ops.shape import Broadcast, Concat, Gather, Reshape, Slice
from tilewright.compiler.ir.ops.unary import Cos, Neg, Sin
from tilewright.compiler.ir.rewrite import Builder, Replacement, rewrite
from tilewright.passes.match import constant_array, made_by, sides
from tilewright.passes.registry import graph_pass
from tilewright.passes.remove_dead_code import remove_dead_code

Half = tuple[Value, int]
"""A tensor and which half of its last axis: 0 or 1."""


@graph_pass
def recognize_rope(graph: Graph) -> Graph:
    """Find rotations of the two halves of the last axis.

        a, b = halves of x
        concat(a * cos - b * sin, b * cos + a * sin)    ->  rope(x, cos, sin)
        x * cos2 + concat(-b, a) * sin2                 ->  rope(x, half of cos2, half of sin2)

    Requires: nothing.
    Ensures: none of the pictures on the left remains.
    Leaves alone: tables cos2 and sin2 whose halves are not provably equal; interleaved pairs.
    """

    def rule(op: Op, builder: Builder) -> Replacement:
        found: tuple[Value, Value, Value] | None = None
        if isinstance(op, Concat) and len(op.parts) == 2 and op.axis == op.out.rank - 1:
            found = _split_form(op)
        elif isinstance(op, Add):
            found = _rotated_form(op, builder)
        if found is None or found[0].type != op.results[0].type:
            return None
        x, cos, sin = found
        return (builder.emit(Rope, x=x, cos=cos, sin=sin),)

    after = rewrite(graph, rule)
    return graph if after is graph else remove_dead_code(after)


def _half(value: Value) -> Half | None:
    op = made_by(value, Slice)
    if op is None or not isinstance(op.x.shape[-1], int) or op.x.shape[-1] % 2:
        return None
    size = op.x.shape[-1] // 2
    whole = op.shape[:-1] == op.x.shape[:-1] and all(s == 0 for s in op.starts[:-1])
    if not whole or op.shape[-1] != size or any(s != 1 for s in op.steps):
        return None
    if op.starts[-1] not in (0, size):
        return None
    return op.x, int(op.starts[-1] == size)


def _terms(value: Value) -> dict[Half, Value] | None:
    """`{half: factor}` of a sum or difference of two halves times something."""
    op = value.op
    if not isinstance(op, Add | Sub):
        return None
    out: dict[Half, Value] = {}
    for term in (op.a, op.b):
        product = made_by(term, Mul)
        if product is None:
            return None
        for half, factor in sides(product):
            if found := _half(half):
                out[found] = factor
                break
        else:
            return None
    return out if len(out) == 2 else None


def _split_form(op: Concat) -> tuple[Value, Value, Value] | None:
    first, second = op.parts
    minus, plus = made_by(first, Sub), made_by(second, Add)
    if minus is None or plus is None:
        return None
    low, high = _terms(first), _terms(second)
    if low is None or high is None or low.keys() != high.keys():
        return None
    x = next(iter(low))[0]
    if set(low) != {(x, 0), (x, 1)}:
        return None
    cos, sin = low[x, 0], low[x, 1]
    # The subtrahend must be the half that is multiplied by the sine.
    subtrahend = made_by(minus.b, Mul)
    if subtrahend is None or sin not in (subtrahend.a, subtrahend.b):
        return None
    if not any(_half(v) == (x, 1) for v in (subtrahend.a, subtrahend.b)):
        return None
    return (x, cos, sin) if high[x, 1] is cos and high[x, 0] is sin else None


def _rotated_form(op: Add, builder: Builder) -> tuple[Value, Value, Value] | None:
    for direct, turned in sides(op):
        straight, crossed = made_by(direct, Mul), made_by(turned, Mul)
        if straight is None or crossed is None:
            continue
        for rotated, sin in sides(crossed):
            x = _rotated_half(rotated)
            for same, cos in sides(straight):
                if x is None or same is not x:
                    continue
                halves = _first_half(cos, builder), _first_half(sin, builder)
                if halves[0] is not None and halves[1] is not None:
                    return x, halves[0], halves[1]
    return None


def _rotated_half(value: Value) -> Value | None:
    """x when `value` is `concat(-b, a)` of the halves a, b of x."""
    op = made_by(value, Concat)
    if op is None or len(op.parts) != 2 or op.axis != value.rank - 1:
        return None
    negated = made_by(op.parts[0], Neg)
    b = _half(negated.x) if negated else None
    a = _half(op.parts[1])
    if a is None or b is None or a[0] is not b[0] or (a[1], b[1]) != (0, 1):
        return None
    return a[0]


def _first_half(table: Value, builder: Builder) -> Value | None:
    """The first half of the last axis of a table whose halves are equal."""
    size = table.shape[-1]
    if not isinstance(size, int) or size % 2 or not _repeats(table, builder):
        return None
    shape = (*table.shape[:-1], size // 2)
    starts, steps = (0,) * table.rank, (1,) * table.rank
    return builder.emit(Slice, x=table, starts=starts, steps=steps, shape=shape)


def _repeats(table: Value, builder: Builder) -> bool:
    """True when the two halves of the last axis are provably equal."""
    op = table.op
    if isinstance(op, Cos | Sin):
        return _repeats(op.x, builder)
    if isinstance(op, Mul):  # torch scales the tables by 1.0 or the YaRN factor
        return all(v.rank == 0 or v.type.elements == 1 or _repeats(v, builder) for v in op.operands)
    if isinstance(op, Concat) and op.axis == table.rank - 1:
        return len(op.parts) == 2 and op.parts[0] is op.parts[1]
    if isinstance(op, Reshape | Broadcast) and op.x.rank and op.x.shape[-1] == table.shape[-1]:
        return _repeats(op.x, builder)
    if isinstance(op, Gather) and op.axis < op.x.rank - 1:
        return _repeats(op.x, builder)
    if isinstance(op, Slice) and op.shape[-1] == op.x.shape[-1]:
        return _repeats(op.x, builder)
    array = constant_array(builder, table)
    if array is None:
        return False
    half = array.shape[-1] // 2
    return bool((array[..., :half] == array[..., half:]).all())

"""Algebra with neutral elements and known ranges."""

from collections.abc import Callable
from typing import Any

import numpy as np

from tilewright.compiler.ir.core import Graph, Op, Value
from tilewright.compiler.ir.dims import bounds
from tilewright.compiler.ir.ops.binary import (
    Add,
    And,
    Div,
    Ge,
    Gt,
    Le,
    Lt,
    Max,
    Mul,
    Or,
    Pow,
    Sub,
    Where,
)
from tilewright.compiler.ir.ops.leaf import Constant, DimValue, Fill, Iota
from tilewright.compiler.ir.ops.shape import Broadcast, Reshape, Slice, Transpose
from tilewright.compiler.ir.ops.unary import Cast, Neg, Not, Reciprocal, Sqrt
from tilewright.compiler.ir.rewrite import Builder, Replacement, rewrite
from tilewright.compiler.ir.types import DType
from tilewright.passes.match import made_by, number, sides, splat
from tilewright.passes.registry import graph_pass
from tilewright.passes.remove_dead_code import remove_dead_code


@graph_pass
def fold_arithmetic(graph: Graph) -> Graph:
    """Drop operations with neutral elements; decide comparisons that the ranges decide.

        x + 0, x - 0, x * 1, x / 1, x ** 1, and(x, true), or(x, false), not(not(x)), --x  ->  x
        where(true, a, b)              ->  a
        x ** 2, x ** 0.5, x ** -1      ->  x * x, sqrt(x), 1 / x
        x / c for a power of two c     ->  x * (1 / c)
        iota >= 0                      ->  true

    Requires: nothing.
    Ensures: none of the pictures on the left remains; x is broadcast where the neutral operand
        broadcast it.
    Leaves alone: x * 0 (NaN and infinity).
    """

    def rule(op: Op, builder: Builder) -> Replacement:
        simplify = _RULES.get(type(op))
        if simplify is None:
            return None
        found = simplify(op, builder, graph)
        if found is None or found.type != op.results[0].type:
            return None
        return (found,)

    after = rewrite(graph, rule)
    return graph if after is graph else remove_dead_code(after)


def _neutral(op: Any, builder: Builder, neutral: Any) -> Value | None:
    """The other operand, broadcast if need be, when one is `neutral`."""
    for x, other in sides(op):
        found = splat(builder, other)
        if found is None or found != neutral:
            continue
        if x.type == op.out.type:
            return x
        return builder.emit(Broadcast, x=x, shape=op.out.shape)
    return None


def _add(op: Add, builder: Builder, graph: Graph) -> Value | None:
    return _neutral(op, builder, 0)


def _mul(op: Mul, builder: Builder, graph: Graph) -> Value | None:
    return _neutral(op, builder, 1)


def _sub(op: Sub, builder: Builder, graph: Graph) -> Value | None:
    return op.a if splat(builder, op.b) == 0 else None


def _div(op: Div, builder: Builder, graph: Graph) -> Value | None:
    c = splat(builder, op.b)
    if c is None:
        return None
    if c == 1:
        return op.a
    if op.out.dtype not in (DType.F32, DType.F64) or op.out.type != op.a.type:
        return None
    mantissa, exponent = np.frexp(float(c))
    if abs(mantissa) != 0.5 or abs(exponent) > 100:
        return None  # only powers of two have an exact reciprocal
    factor = builder.emit(Fill, value=1.0 / float(c), type=op.b.type)
    return builder.emit(Mul, a=op.a, b=factor)


def _pow(op: Pow, builder: Builder, graph: Graph) -> Value | None:
    power = number(builder, op.b)
    if power is None or op.a.type != op.out.type:
        return None
    if power == 1.0:
        return op.a
    if power == 2.0:
        return builder.emit(Mul, a=op.a, b=op.a)
    if power == 0.5 and op.a.dtype.is_float:
        return builder.emit(Sqrt, x=op.a)
    if power == -1.0 and op.a.dtype.is_float:
        return builder.emit(Reciprocal, x=op.a)
    if power == -0.5 and op.a.dtype.is_float:
        return builder.emit(Reciprocal, x=builder.emit(Sqrt, x=op.a))
    return None


def _and(op: And, builder: Builder, graph: Graph) -> Value | None:
    return _neutral(op, builder, True)


def _or(op: Or, builder: Builder, graph: Graph) -> Value | None:
    return _neutral(op, builder, False)


def _not(op: Not, builder: Builder, graph: Graph) -> Value | None:
    inner = made_by(op.x, Not)
    return inner.x if inner else None


def _neg(op: Neg, builder: Builder, graph: Graph) -> Value | None:
    inner = made_by(op.x, Neg)
    return inner.x if inner else None


def _where(op: Where, builder: Builder, graph: Graph) -> Value | None:
    if op.a is op.b:
        return op.a
    condition = splat(builder, op.condition)
    if condition is None:
        return None
    chosen = op.a if condition else op.b
    if chosen.type == op.out.type:
        return chosen
    return builder.emit(Broadcast, x=chosen, shape=op.out.shape)


def _compare(op: Ge | Gt | Le | Lt, builder: Builder, graph: Graph) -> Value | None:
    """The comparison of integers whose ranges decide it."""
    if not op.a.dtype.is_int:
        return None
    (a_low, a_high), (b_low, b_high) = (_range(v, builder, graph) for v in (op.a, op.b))
    if isinstance(op, Le | Lt):  # b >= a, b > a
        a_low, a_high, b_low, b_high = b_low, b_high, a_low, a_high
    strict = isinstance(op, Gt | Lt)
    if a_low is not None and b_high is not None and a_low >= b_high + strict:
        return builder.emit(Fill, value=True, type=op.out.type)
    if a_high is not None and b_low is not None and a_high < b_low + strict:
        return builder.emit(Fill, value=False, type=op.out.type)
    return None


def _range(value: Value, builder: Builder, graph: Graph) -> tuple[int | None, int | None]:
    """The least and greatest element of an integer tensor, None where unknown."""
    op = value.op
    while isinstance(op, Reshape | Broadcast | Transpose | Slice):
        value, op = op.x, op.x.op
    if isinstance(op, Iota):
        high = bounds(op.length, graph.bounds)[1]
        return 0, None if high is None else high - 1
    if isinstance(op, DimValue):
        return bounds(op.size, graph.bounds)
    literal = splat(builder, value)
    if literal is not None:
        return int(literal), int(literal)
    if isinstance(op, Constant):
        array = builder.array(value)
        if array is not None and array.size:
            return int(array.min()), int(array.max())
    if isinstance(op, Max):
        (a, b), (c, d) = _range(op.a, builder, graph), _range(op.b, builder, graph)
        lows = [x for x in (a, c) if x is not None]
        return max(lows, default=None), None if b is None or d is None else max(b, d)
    if isinstance(op, Cast) and op.x.dtype.is_int and op.dtype == DType.I64:
        return _range(op.x, builder, graph)
    return None, None


_RULES: dict[type[Op], Callable[[Any, Builder, Graph], Value | None]] = {
    Add: _add,
    Sub: _sub,
    Mul: _mul,
    Div: _div,
    Pow: _pow,
    And: _and,
    Or: _or,
    Not: _not,
    Neg: _neg,
    Where: _where,
    Ge: _compare,
    Gt: _compare,
    Le: _compare,
    Lt: _compare,
}

"""GELU from its parts (Hendrycks, Gimpel 2016), exact and with tanh."""

import math

from tilewright.compiler.ir.core import Graph, Op, Value
from tilewright.compiler.ir.ops.binary import Add, Div, Mul, Pow
from tilewright.compiler.ir.ops.unary import Erf, Gelu, GeluTanh, Tanh
from tilewright.compiler.ir.rewrite import Builder, Replacement, rewrite
from tilewright.passes.match import close, factors, made_by, plus, sides
from tilewright.passes.registry import graph_pass
from tilewright.passes.remove_dead_code import remove_dead_code

CUBIC = 0.044715
"""The coefficient of x**3 in the tanh form."""


@graph_pass
def recognize_gelu(graph: Graph) -> Graph:
    """Find the Gaussian error linear unit, whatever the order of its factors.

        x / 2 * (1 + erf(x / sqrt(2)))                              ->  gelu(x)
        x / 2 * (1 + tanh(sqrt(2/pi) * (x + 0.044715 * x**3)))      ->  gelu_tanh(x)
        the same with x * (1 + 0.044715 * x**2) inside              ->  gelu_tanh(x)

    Requires: nothing.
    Ensures: none of the pictures on the left remains.
    Leaves alone: other coefficients (2e-6 relative is the rounding of a float32 literal).
    """

    def rule(op: Op, builder: Builder) -> Replacement:
        if not isinstance(op, Mul) or not op.out.dtype.is_float:
            return None
        coefficient, parts = factors(builder, op.out)
        if not close(coefficient, 0.5):
            return None
        for part in parts:
            found = plus(builder, part)
            curve = found[0].op if found is not None and found[1] == 1.0 else None
            if isinstance(curve, Erf | Tanh):
                for x in _inside(curve.x, 6):
                    if x.type == op.out.type and _is_half_of(op.out, x, part, builder):
                        if isinstance(curve, Erf) and _is_erf(curve, x, builder):
                            return (builder.emit(Gelu, x=x),)
                        if isinstance(curve, Tanh) and _is_tanh(curve, x, builder):
                            return (builder.emit(GeluTanh, x=x),)
        return None

    after = rewrite(graph, rule)
    return graph if after is graph else remove_dead_code(after)


def _inside(value: Value, depth: int) -> list[Value]:
    """What x may be: the values from which the argument of erf or tanh is computed."""
    found = [value]
    if depth and isinstance(value.op, Mul | Div | Add | Pow):
        for operand in value.op.operands:
            found += [v for v in _inside(operand, depth - 1) if v not in found]
    return found


def _is_half_of(value: Value, x: Value, rest: Value, builder: Builder) -> bool:
    """True for `0.5 * x * rest`."""
    coefficient, parts = factors(builder, value, whole=x)
    return close(coefficient, 0.5) and len(parts) == 2 and {*parts} == {x, rest}


def _is_erf(erf: Erf, x: Value, builder: Builder) -> bool:
    coefficient, parts = factors(builder, erf.x, whole=x)
    return close(coefficient, math.sqrt(0.5)) and _all(parts, x, 1)


def _is_tanh(tanh: Tanh, x: Value, builder: Builder) -> bool:
    coefficient, parts = factors(builder, tanh.x, whole=x)
    if not close(coefficient, math.sqrt(2 / math.pi)):
        return False
    if len(parts) == 2:  # x * (1 + c * x * x)
        inner = [p for p in parts if p is not x]
        found = plus(builder, inner[0]) if len(inner) == 1 else None
        return found is not None and found[1] == 1.0 and _is_power(found[0], x, 2, builder)
    sum_ = made_by(parts[0], Add) if len(parts) == 1 else None
    if sum_ is None:
        return False
    return any(a is x and _is_power(b, x, 3, builder) for a, b in sides(sum_))


def _is_power(value: Value, x: Value, power: int, builder: Builder) -> bool:
    """True for `0.044715 * x**power`."""
    coefficient, parts = factors(builder, value, whole=x)
    return close(coefficient, CUBIC) and _all(parts, x, power)


def _all(parts: list[Value], x: Value, count: int) -> bool:
    return len(parts) == count and all(p is x for p in parts)

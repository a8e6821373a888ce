"""How elementwise IR operations transform symbolic elements (see `shape_values`)."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tilewright.compiler.frontend.dim_logic import (
    BoundsOf,
    decided,
    is_zero,
    larger,
    negative,
    positive,
    smaller,
    too_long,
)
from tilewright.compiler.ir.core import Op
from tilewright.compiler.ir.dims import Dim, Expr, dmax, floordiv, mod
from tilewright.compiler.ir.ops import binary, unary
from tilewright.compiler.ir.types import DType

Scalar = int | Expr | float | None
Elements = np.ndarray
"""An object array of `Scalar`s."""
Rule = Callable[[Any, Sequence[Elements | None], BoundsOf], Elements | None]

RULES: dict[type[Op], Rule] = {}


def rule_for(*ops: type[Op]) -> Callable[[Rule], Rule]:
    """Register a rule for operations: from the known elements of the operands to the result's."""

    def register(rule: Rule) -> Rule:
        for op in ops:
            RULES[op] = rule
        return rule

    return register


def _elementwise(*ops: type[Op]) -> Callable[[Callable[..., Scalar]], Callable[..., Scalar]]:
    """Register a function of scalars; it is not called when an operand is unknown."""

    def register(f: Callable[..., Scalar]) -> Callable[..., Scalar]:
        def rule(
            op: Any, operands: Sequence[Elements | None], bounds_of: BoundsOf
        ) -> Elements | None:
            if any(x is None for x in operands):
                return None
            arrays = np.broadcast_arrays(*[x for x in operands if x is not None])
            out = np.empty(arrays[0].shape, object)
            for i, scalars in enumerate(zip(*(a.reshape(-1) for a in arrays), strict=True)):
                known = not any(s is None for s in scalars)
                out.reshape(-1)[i] = _limited(f(op, bounds_of, *scalars)) if known else None
            return out

        for op in ops:
            RULES[op] = rule
        return f

    return register


def _limited(x: Scalar) -> Scalar:
    """None for expressions too long to be useful."""
    return None if isinstance(x, Expr) and too_long(x) else x


def _wrap(op: Any, x: Scalar) -> Scalar:
    """Numbers wrapped to the width of the result."""
    dtype = op.out.dtype
    if isinstance(x, int) and dtype.is_int:
        x &= (1 << dtype.bits) - 1
        if dtype.kind == "int" and x >> (dtype.bits - 1):
            x -= 1 << dtype.bits
    return x


def _alike(a: Any, b: Any) -> tuple[Any, Any]:
    """Operands of one kind: next to an expression, a float must be whole (else None)."""
    if isinstance(a, Expr) and isinstance(b, float):
        return a, int(b) if b.is_integer() else None
    if isinstance(b, Expr) and isinstance(a, float):
        return int(a) if a.is_integer() else None, b
    return a, b


@_elementwise(binary.Add)
def _add(op: Any, bounds_of: BoundsOf, a: Any, b: Any) -> Scalar:
    a, b = _alike(a, b)
    return None if a is None or b is None else _wrap(op, a + b)


@_elementwise(binary.Sub)
def _sub(op: Any, bounds_of: BoundsOf, a: Any, b: Any) -> Scalar:
    a, b = _alike(a, b)
    return None if a is None or b is None else _wrap(op, a - b)


@_elementwise(binary.Mul)
def _mul(op: Any, bounds_of: BoundsOf, a: Any, b: Any) -> Scalar:
    a, b = _alike(a, b)
    return None if a is None or b is None else _wrap(op, a * b)


@_elementwise(binary.Div)
def _div(op: Any, bounds_of: BoundsOf, a: Any, b: Any) -> Scalar:
    if op.out.dtype.is_float and (isinstance(a, Expr) or isinstance(b, Expr)):
        return None
    if isinstance(a, float) or isinstance(b, float):
        return a / b if b else None
    if isinstance(b, int) and b == 0:
        return 0
    if isinstance(a, int) and isinstance(b, int):
        quotient = abs(a) // abs(b)
        return _wrap(op, quotient if (a < 0) == (b < 0) else -quotient)
    if (bounds_of(b)[0] or 0) <= 0:
        return None
    if (bounds_of(a)[0] or -1) >= 0 or bounds_of(a)[0] == 0:
        return floordiv(a, b)
    return floordiv(dmax(a, 0), b) - floordiv(dmax(-a, 0), b)


@_elementwise(binary.Mod)
def _mod(op: Any, bounds_of: BoundsOf, a: Any, b: Any) -> Scalar:
    a, b = _alike(a, b)
    if a is None or b is None:
        return None
    if isinstance(a, float) or isinstance(b, float) or (bounds_of(b)[0] or 0) <= 0:
        return None
    return mod(a, b)


@_elementwise(binary.Min)
def _min(op: Any, bounds_of: BoundsOf, a: Any, b: Any) -> Scalar:
    a, b = _alike(a, b)
    if a is None or b is None:
        return None
    if isinstance(a, float) or isinstance(b, float):
        return min(a, b) if a == a and b == b else math.nan
    return smaller(a, b, bounds_of)


@_elementwise(binary.Max)
def _max(op: Any, bounds_of: BoundsOf, a: Any, b: Any) -> Scalar:
    a, b = _alike(a, b)
    if a is None or b is None:
        return None
    if isinstance(a, float) or isinstance(b, float):
        return max(a, b) if a == a and b == b else math.nan
    return larger(a, b, bounds_of)


@_elementwise(binary.Pow)
def _pow(op: Any, bounds_of: BoundsOf, a: Any, b: Any) -> Scalar:
    small = isinstance(a, int) and isinstance(b, int) and 0 <= b < 64
    return _wrap(op, a**b) if small else None


def _compare(op: Any, bounds_of: BoundsOf, a: Any, b: Any) -> Scalar:
    a, b = _alike(a, b)
    if a is None or b is None:
        return None
    if isinstance(a, float) or isinstance(b, float):
        kind = type(op)
        table = {
            binary.Eq: a == b,
            binary.Lt: a < b,
            binary.Le: a <= b,
            binary.Gt: a > b,
            binary.Ge: a >= b,
        }
        return int(table[kind])
    match op:
        case binary.Eq():
            difference = a - b
            return (
                1
                - decided(negative, difference, bounds_of)
                - decided(positive, difference, bounds_of)
            )
        case binary.Lt():
            return decided(negative, a - b, bounds_of)
        case binary.Gt():
            return decided(positive, a - b, bounds_of)
        case binary.Le():
            return 1 - decided(positive, a - b, bounds_of)
    return 1 - decided(negative, a - b, bounds_of)


_elementwise(binary.Eq, binary.Lt, binary.Le, binary.Gt, binary.Ge)(_compare)


@_elementwise(binary.And)
def _and(op: Any, bounds_of: BoundsOf, a: Dim, b: Dim) -> Scalar:
    return a * b


@_elementwise(binary.Or)
def _or(op: Any, bounds_of: BoundsOf, a: Dim, b: Dim) -> Scalar:
    return a + b - a * b


@_elementwise(unary.Not)
def _not(op: Any, bounds_of: BoundsOf, x: Dim) -> Scalar:
    return 1 - x


@_elementwise(unary.Neg)
def _neg(op: Any, bounds_of: BoundsOf, x: Any) -> Scalar:
    return _wrap(op, -x)


@_elementwise(unary.Abs)
def _abs(op: Any, bounds_of: BoundsOf, x: Any) -> Scalar:
    if isinstance(x, float | int):
        return abs(x)
    return larger(x, -x, bounds_of)


@_elementwise(unary.Floor)
def _floor(op: Any, bounds_of: BoundsOf, x: Any) -> Scalar:
    if isinstance(x, Expr):
        return x
    return float(math.floor(x)) if math.isfinite(x) else x


@_elementwise(unary.Ceil)
def _ceil(op: Any, bounds_of: BoundsOf, x: Any) -> Scalar:
    if isinstance(x, Expr):
        return x
    return float(math.ceil(x)) if math.isfinite(x) else x


@_elementwise(unary.Sqrt)
def _sqrt(op: Any, bounds_of: BoundsOf, x: Any) -> Scalar:
    if isinstance(x, Expr):
        return None
    return math.sqrt(x) if x >= 0 else math.nan


@_elementwise(unary.Reciprocal)
def _reciprocal(op: Any, bounds_of: BoundsOf, x: Any) -> Scalar:
    return None if isinstance(x, Expr) or x == 0 else 1 / x


@_elementwise(unary.Cast)
def _cast(op: Any, bounds_of: BoundsOf, x: Any) -> Scalar:
    if op.dtype.is_float:
        exact = isinstance(x, Expr) and op.dtype in (DType.F32, DType.F64)
        return float(x) if isinstance(x, int | float) else x if exact else None
    if op.dtype.kind == "bool":
        return int(x != 0) if isinstance(x, int | float) else 1 - is_zero(x)
    if isinstance(x, float):
        return _wrap(op, int(x)) if math.isfinite(x) else None
    low, high = bounds_of(x)
    wide = op.dtype.bits >= 32 or (low is not None and high is not None)
    return _wrap(op, x) if wide else None

"""How each IR operation transforms the symbolic elements of its operands (see `shape_values`)."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tilewright.compiler.ir.core import Op
from tilewright.compiler.ir.dims import Dim, Expr, Sym, dmax, dmin, floordiv, mod, sym
from tilewright.compiler.ir.ops import binary, leaf, reduce, shape, unary
from tilewright.compiler.ir.types import DType

Scalar = int | Expr | float | None
Elements = np.ndarray
"""An object array of `Scalar`s."""
BoundsOf = Callable[[Dim], tuple[int | None, int | None]]
Rule = Callable[[Any, Sequence[Elements | None], BoundsOf], Elements | None]

RULES: dict[type[Op], Rule] = {}


def negative(x: Dim) -> Dim:
    """1 when x < 0, else 0; no overflow for any i64."""
    return -dmax(-1, dmin(x, 0))


def positive(x: Dim) -> Dim:
    """1 when x > 0, else 0; no overflow for any i64."""
    return dmin(1, dmax(x, 0))


def is_zero(x: Dim) -> Dim:
    """1 when x == 0, else 0."""
    return 1 - negative(x) - positive(x)


def select(condition: Dim, a: Dim, b: Dim) -> Dim:
    """a when `condition` (0 or 1) is 1, else b."""
    if isinstance(condition, int):
        return a if condition else b
    return b if a == b else condition * a + (1 - condition) * b


def decided(sign: Callable[[Dim], Dim], x: Dim, bounds_of: BoundsOf) -> Dim:
    """`sign(x)`, as a number when the bounds of x decide it."""
    low, high = bounds_of(x)
    if low is not None and low > 0:
        return sign(1)
    if high is not None and high < 0:
        return sign(-1)
    if low == high == 0:
        return sign(0)
    if sign is negative and low is not None and low >= 0:
        return 0
    if sign is positive and high is not None and high <= 0:
        return 0
    return sign(x)


def clamp_min(x: Dim, least: int, bounds_of: BoundsOf) -> Dim:
    """max(x, least), dropping the max when the bounds decide it."""
    low, _ = bounds_of(x)
    return x if low is not None and low >= least else dmax(x, least)


def smaller(a: Dim, b: Dim, bounds_of: BoundsOf) -> Dim:
    """min(a, b), dropping the min when the bounds decide it."""
    low, high = bounds_of(a - b)
    if high is not None and high <= 0:
        return a
    return b if low is not None and low >= 0 else dmin(a, b)


def larger(a: Dim, b: Dim, bounds_of: BoundsOf) -> Dim:
    """max(a, b), dropping the max when the bounds decide it."""
    low, high = bounds_of(a - b)
    if low is not None and low >= 0:
        return a
    return b if high is not None and high <= 0 else dmax(a, b)


def simplified(dim: Dim, bounds_of: BoundsOf) -> Dim:
    """`dim` without the min and max that the bounds decide."""
    if isinstance(dim, int):
        return dim
    out: Dim = 0
    for atoms, coefficient in dim.terms:
        term: Dim = coefficient
        for atom in atoms:
            if isinstance(atom, Sym):
                term = term * sym(atom.name)
            else:
                a, b = simplified(atom.a, bounds_of), simplified(atom.b, bounds_of)
                term = term * _BUILD[atom.op](a, b, bounds_of)
        out = out + term
    return out


_BUILD: dict[str, Callable[[Dim, Dim, BoundsOf], Dim]] = {
    "min": smaller,
    "max": larger,
    "floordiv": lambda a, b, _: floordiv(a, b),
    "mod": lambda a, b, _: mod(a, b),
}


def _rule(*ops: type[Op]) -> Callable[[Rule], Rule]:
    def register(rule: Rule) -> Rule:
        for op in ops:
            RULES[op] = rule
        return rule

    return register


def _elementwise(*ops: type[Op]) -> Callable[[Callable[..., Scalar]], Callable[..., Scalar]]:
    """Register a function of scalars; it is not called when an operand is unknown."""

    def register(f: Callable[..., Scalar]) -> Callable[..., Scalar]:
        def rule(op: Any, operands: Sequence[Elements | None], bounds_of: BoundsOf) -> Elements | None:
            if any(x is None for x in operands):
                return None
            arrays = np.broadcast_arrays(*[x for x in operands if x is not None])
            out = np.empty(arrays[0].shape, object)
            for i, scalars in enumerate(zip(*(a.reshape(-1) for a in arrays), strict=True)):
                known = not any(s is None for s in scalars)
                out.reshape(-1)[i] = f(op, bounds_of, *scalars) if known else None
            return out

        for op in ops:
            RULES[op] = rule
        return f

    return register


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
            return 1 - decided(negative, difference, bounds_of) - decided(positive, difference, bounds_of)
        case binary.Lt():
            return decided(negative, a - b, bounds_of)
        case binary.Gt():
            return decided(positive, a - b, bounds_of)
        case binary.Le():
            return 1 - decided(positive, a - b, bounds_of)
    return 1 - decided(negative, a - b, bounds_of)


_elementwise(binary.Eq, binary.Lt, binary.Le, binary.Gt, binary.Ge)(_compare)


@_elementwise(binary.And)
def _and(op: Any, bounds_of: BoundsOf, a: Any, b: Any) -> Scalar:
    return a * b


@_elementwise(binary.Or)
def _or(op: Any, bounds_of: BoundsOf, a: Any, b: Any) -> Scalar:
    return a + b - a * b


@_elementwise(unary.Not)
def _not(op: Any, bounds_of: BoundsOf, x: Any) -> Scalar:
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


@_rule(binary.Where)
def _where(op: Any, operands: Sequence[Elements | None], bounds_of: BoundsOf) -> Elements | None:
    condition, a, b = operands
    if condition is None or (a is None and b is None):
        return None
    unknown = np.empty((), object)
    arrays = np.broadcast_arrays(
        condition, unknown if a is None else a, unknown if b is None else b
    )
    out = np.empty(arrays[0].shape, object)
    for i, (c, x, y) in enumerate(zip(*(v.reshape(-1) for v in arrays), strict=True)):
        if isinstance(c, int):
            out.reshape(-1)[i] = x if c else y
        elif isinstance(c, Expr) and isinstance(x, int | Expr) and isinstance(y, int | Expr):
            out.reshape(-1)[i] = select(c, x, y)
    return out


@_rule(leaf.DimValue)
def _dim(op: Any, operands: Sequence[Elements | None], bounds_of: BoundsOf) -> Elements | None:
    out = np.empty((), object)
    out[()] = op.size
    return out


@_rule(leaf.Iota)
def _iota(op: Any, operands: Sequence[Elements | None], bounds_of: BoundsOf) -> Elements | None:
    return np.arange(op.length).astype(float if op.dtype.is_float else np.int64).astype(object)


@_rule(leaf.Fill)
def _fill(op: Any, operands: Sequence[Elements | None], bounds_of: BoundsOf) -> Elements | None:
    out = np.empty(op.type.shape, object)
    out[...] = float(op.value) if op.type.dtype.is_float else int(op.value)
    return out


@_rule(shape.Reshape)
def _reshape(op: Any, operands: Sequence[Elements | None], bounds_of: BoundsOf) -> Elements | None:
    return None if operands[0] is None else operands[0].reshape(op.shape)


@_rule(shape.Transpose)
def _transpose(op: Any, operands: Sequence[Elements | None], bounds_of: BoundsOf) -> Elements | None:
    return None if operands[0] is None else operands[0].transpose(op.perm)


@_rule(shape.Broadcast)
def _broadcast(op: Any, operands: Sequence[Elements | None], bounds_of: BoundsOf) -> Elements | None:
    return None if operands[0] is None else np.broadcast_to(operands[0], op.shape)


@_rule(shape.Slice)
def _slice(op: Any, operands: Sequence[Elements | None], bounds_of: BoundsOf) -> Elements | None:
    (x,) = operands
    if x is None or not all(isinstance(s, int) for s in op.starts):
        return None
    for axis, (start, step, size) in enumerate(zip(op.starts, op.steps, op.shape, strict=True)):
        index = start + step * np.arange(size)
        if size and not (0 <= index.min() and index.max() < x.shape[axis]):
            return None
        x = np.take(x, index, axis=axis)
    return x


@_rule(shape.Concat)
def _concat(op: Any, operands: Sequence[Elements | None], bounds_of: BoundsOf) -> Elements | None:
    parts = []
    for part, value in zip(operands, op.parts, strict=True):
        parts.append(np.empty(value.shape, object) if part is None else part)
    return np.concatenate(parts, axis=op.axis)


@_rule(shape.Pad)
def _pad(op: Any, operands: Sequence[Elements | None], bounds_of: BoundsOf) -> Elements | None:
    x, value = operands[0], operands[1] if len(operands) > 1 else np.zeros((), object)
    if x is None or value is None or op.mode != "constant":
        return None
    widths = list(zip(op.low, op.high, strict=True))
    if not all(isinstance(w, int) and w >= 0 for pair in widths for w in pair):
        return None
    zero = 0.0 if op.out.dtype.is_float else 0
    fill = value[()] if len(operands) > 1 else zero
    out = np.empty(op.out.shape, object)
    out[...] = fill
    out[tuple(slice(lo, lo + d) for (lo, _), d in zip(widths, x.shape, strict=True))] = x
    return out


def _positions(indices: Elements | None, size: int) -> np.ndarray | None:
    if indices is None or not all(isinstance(i, int) and -size <= i < size for i in indices.flat):
        return None
    return indices.astype(np.int64) % max(size, 1)


@_rule(shape.Gather)
def _gather(op: Any, operands: Sequence[Elements | None], bounds_of: BoundsOf) -> Elements | None:
    x, indices = operands
    found = None if x is None else _positions(indices, x.shape[op.axis])
    if x is None or found is None:
        return None
    return np.asarray(np.take(x, found, axis=op.axis), dtype=object)


@_rule(shape.GatherElements)
def _gather_elements(op: Any, operands: Sequence[Elements | None], bounds_of: BoundsOf) -> Elements | None:
    x, indices = operands
    found = None if x is None else _positions(indices, x.shape[op.axis])
    return None if x is None or found is None else np.take_along_axis(x, found, axis=op.axis)


@_rule(shape.ScatterElements)
def _scatter_elements(
    op: Any, operands: Sequence[Elements | None], bounds_of: BoundsOf
) -> Elements | None:
    x, indices, updates = operands
    found = None if x is None else _positions(indices, x.shape[op.axis])
    if x is None or updates is None or found is None or op.reduction != "none":
        return None
    out = x.copy()
    np.put_along_axis(out, found, updates, axis=op.axis)
    return out


@_rule(shape.ScatterNd)
def _scatter_nd(op: Any, operands: Sequence[Elements | None], bounds_of: BoundsOf) -> Elements | None:
    x, indices, updates = operands
    if x is None or indices is None or updates is None or op.reduction != "none":
        return None
    if not all(isinstance(i, int) for i in indices.flat):
        return None
    out = x.copy()
    for at in np.ndindex(indices.shape[:-1]):
        out[tuple(indices[at])] = updates[at]
    return out


@_rule(reduce.Reduce)
def _reduce(op: Any, operands: Sequence[Elements | None], bounds_of: BoundsOf) -> Elements | None:
    (x,) = operands
    combine: dict[str, Callable[[Any, Any], Any]] = {
        "sum": lambda a, b: a + b,
        "prod": lambda a, b: a * b,
        "min": lambda a, b: smaller(a, b, bounds_of),
        "max": lambda a, b: larger(a, b, bounds_of),
    }
    if x is None or op.kind not in combine or any(s is None or isinstance(s, float) for s in x.flat):
        return None
    if op.kind in ("min", "max") and x.size == 0:
        return None
    start: Any = {"sum": 0, "prod": 1}.get(op.kind)
    out = np.frompyfunc(combine[op.kind], 2, 1)
    for axis in sorted(op.axes, reverse=True):
        first = {} if start is None else {"initial": start}
        x = out.reduce(x, axis=axis, keepdims=op.keepdims, **first)
        x = np.asarray(x, dtype=object)
    return x


@_rule(reduce.Cumulate)
def _cumulate(op: Any, operands: Sequence[Elements | None], bounds_of: BoundsOf) -> Elements | None:
    (x,) = operands
    if x is None or op.exclusive or op.reverse or any(s is None for s in x.flat):
        return None
    f = np.frompyfunc(lambda a, b: a + b if op.kind == "sum" else a * b, 2, 1)
    return np.asarray(f.accumulate(x, axis=op.axis, dtype=object), dtype=object)

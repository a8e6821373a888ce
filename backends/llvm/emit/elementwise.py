"""The elementwise operators of region bodies, with ONNX semantics, over `Emit`.

`apply(e, name, args, dtypes, result)` is the whole interface; OPS lists the names with arity and
cost (in units of one vector add, used to decide what to recompute).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tilewright.backends.llvm.emit.arith import Value
from tilewright.backends.llvm.emit.convert import UNSIGNED, cast, is_float
from tilewright.backends.llvm.emit.emit import Emit
from tilewright.backends.llvm.vecmath import UNARY
from tilewright.backends.llvm.vecmath_pow import pow_


@dataclass(frozen=True)
class OpInfo:
    """Number of operands and cost relative to an addition."""

    arity: int
    cost: int


_CHEAP = {"add": 2, "sub": 2, "mul": 2, "min": 2, "max": 2, "neg": 1, "abs": 1, "relu": 1}
_CHEAP |= {"and": 2, "or": 2, "xor": 2, "not": 1, "shl": 2, "shr": 2, "where": 3, "cast": 1}
_CHEAP |= {"eq": 2, "ne": 2, "lt": 2, "le": 2, "gt": 2, "ge": 2, "isnan": 1, "isinf": 1, "sign": 1}
_CHEAP |= {"floor": 1, "ceil": 1, "round": 1, "trunc": 1, "fma": 3, "isposinf": 1, "isneginf": 1}
_CHEAP |= {"clip": 3}
_DEAR = {"div": (2, 8), "recip": (1, 8), "sqrt": (1, 10), "rsqrt": (1, 16), "pow": (2, 80)}
_DEAR |= {"mod": (2, 20), "fmod": (2, 20)}

OPS: dict[str, OpInfo] = (
    {name: OpInfo(arity, 1) for name, arity in _CHEAP.items()}
    | {name: OpInfo(arity, cost) for name, (arity, cost) in _DEAR.items()}
    | {name: OpInfo(1, 20) for name in UNARY}
)

_COMPARE = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
_FLOAT_UNARY = {"floor": "floor", "ceil": "ceil", "round": "rint", "trunc": "trunc"}


def _like(e: Emit, value: float | int, x: Value) -> Value:
    return e.const(e.dtype(x), value, e.lanes(x))


def maximum(e: Emit, x: Value, y: Value, dtype: str, smallest: bool = False) -> Value:
    """max (or min) that gives NaN if either operand is NaN."""
    op = "<" if smallest else ">"
    if not is_float(dtype):
        if dtype == "bool":
            return e.and_(x, y) if smallest else e.or_(x, y)
        return e.select(e.icmp(op, x, y, dtype not in UNSIGNED), x, y)
    picked = e.select(e.fcmp(op, x, y), x, y)  # y if either is NaN
    return e.select(e.fcmp("!=", x, x), x, picked)


def _divide(e: Emit, x: Value, y: Value, signed: bool) -> Value:
    """Integer quotient towards zero. x / 0 is 0 and the smallest / -1 wraps; the machine traps."""
    zero, one = _like(e, 0, y), _like(e, 1, y)
    by_zero = e.icmp("==", y, zero)
    if not signed:
        quotient = e.idiv(x, e.select(by_zero, one, y), signed=False)
        return e.select(by_zero, zero, quotient)
    by_minus = e.icmp("==", y, _like(e, -1, y))
    quotient = e.idiv(x, e.select(e.or_(by_zero, by_minus), one, y))
    quotient = e.select(by_minus, e.isub(zero, x), quotient)
    return e.select(by_zero, zero, quotient)


def _float_remainder(e: Emit, x: Value, y: Value) -> Value:
    """C's fmod of f64 values, exact for values that came from f32.

    A quotient below 2^28 leaves the product with y exact. Larger ones are taken off 24 bits at a
    time, which is exact as well; twelve steps reach the quotients that f32 can give (2^277).
    """
    quotient = e.div(x, y)
    large = e.fcmp(">", e.abs(quotient), _like(e, 2.0**28, x))

    def slow() -> Value:
        r = x
        for _ in range(12):
            bits = e.bits(e.div(r, y))
            top = e.from_bits(e.and_(bits, _like(e, -1 << 29, bits)))
            r = e.fma(e.neg(e.trunc(top)), y, r)
        return r

    r = e.if_any(large, slow, e.fma(e.neg(e.trunc(quotient)), y, x))
    # The rounded quotient may be one too large: then the remainder has the wrong sign.
    zero, size = _like(e, 0.0, r), e.abs(y)
    back = e.select(e.fcmp("<", x, zero), e.neg(size), size)
    r = e.select(e.fcmp("<", e.mul(r, x), zero), e.add(r, back), r)
    infinite = e.fcmp("==", size, _like(e, math.inf, r))
    finite = e.fcmp("<", e.abs(x), _like(e, math.inf, r))
    return e.select(e.and_(infinite, finite), x, r)


def _modulo(e: Emit, x: Value, y: Value, dtype: str, c_style: bool) -> Value:
    """ONNX Mod: the sign of the divisor, or with ``c_style`` (fmod=1) of the dividend.

    Integers modulo 0 give 0. f64 operands are exact while the quotient is below 2^28.
    """
    if is_float(dtype):
        wide = e.fpcast(y, "f64")
        r = _float_remainder(e, e.fpcast(x, "f64"), wide)
        if not c_style:
            opposite = e.fcmp("<", e.mul(r, wide), _like(e, 0.0, r))
            r = e.select(opposite, e.add(r, wide), r)
        return e.fpcast(r, e.dtype(x))
    r = e.isub(x, e.imul(_divide(e, x, y, dtype not in UNSIGNED), y))
    zero = _like(e, 0, r)
    r = e.select(e.icmp("==", y, zero), zero, r)
    if c_style or dtype in UNSIGNED:
        return r
    opposite = e.and_(e.icmp("!=", r, zero), e.icmp("<", e.xor(r, y), zero))
    return e.select(opposite, e.iadd(r, y), r)


def _integer_power(e: Emit, x: Value, y: Value) -> Value:
    """x^y by squaring; exponents below 0 give 0 (1 and -1 give themselves), results wrap."""
    one, zero = _like(e, 1, x), _like(e, 0, x)
    result, square = one, x
    bits = int(e.dtype(x)[1:])
    for k in range(bits - 1 if bits < 64 else 63):
        bit = e.and_(e.lshr(y, _like(e, k, y)), _like(e, 1, y))
        result = e.select(e.icmp("!=", bit, zero), e.imul(result, square), result)
        square = e.imul(square, square)
    odd = e.icmp("!=", e.and_(y, one), zero)
    minus = e.icmp("==", x, _like(e, -1, x))
    unit = e.or_(e.icmp("==", x, one), minus)
    flipped = e.select(e.and_(minus, e.xor(odd, e.icmp("==", one, one))), one, x)
    below = e.select(unit, flipped, zero)
    return e.select(e.icmp("<", y, zero), below, result)


def _shift(e: Emit, x: Value, y: Value, left: bool, signed: bool) -> Value:
    """BitShift; by the width or more, a left or unsigned shift gives 0 and a signed right one the
    sign (the machine's results differ)."""
    width = int(e.dtype(x)[1:])
    wide = e.icmp(">=", y, _like(e, width, y), signed=False)
    if signed and not left:
        return e.ashr(x, e.select(wide, _like(e, width - 1, y), y))
    safe = e.select(wide, _like(e, 0, y), y)
    return e.select(wide, _like(e, 0, x), e.shl(x, safe) if left else e.lshr(x, safe))


def _sign(e: Emit, x: Value, dtype: str) -> Value:
    zero, one, minus = _like(e, 0, x), _like(e, 1, x), _like(e, -1, x)
    if is_float(dtype):
        y = e.select(e.fcmp(">", x, zero), one, x)  # zeros and NaN stay
        return e.select(e.fcmp("<", x, zero), minus, y)
    y = e.select(e.icmp("!=", x, zero), one, zero)
    return y if dtype in UNSIGNED else e.select(e.icmp("<", x, zero), minus, y)


def _float_op(e: Emit, name: str, x: Sequence[Value]) -> Value | None:
    a = x[0]
    if name in UNARY:
        return UNARY[name](e, a)
    if name in ("add", "sub", "mul", "div", "neg", "abs", "sqrt", "fma"):
        return getattr(e, name)(*x)
    if name in _FLOAT_UNARY:
        return getattr(e, _FLOAT_UNARY[name])(a)
    if name == "relu":
        zero = _like(e, 0.0, a)
        return e.select(e.fcmp("<", a, zero), zero, a)
    if name == "recip":
        return e.div(_like(e, 1.0, a), a)
    if name == "rsqrt":
        return e.div(_like(e, 1.0, a), e.sqrt(a))
    if name == "pow":
        return pow_(e, *x)
    if name == "isnan":
        return e.fcmp("!=", a, a)
    if name == "isinf":
        return e.fcmp("==", e.abs(a), _like(e, math.inf, a))
    if name == "isposinf":
        return e.fcmp("==", a, _like(e, math.inf, a))
    if name == "isneginf":
        return e.fcmp("==", a, _like(e, -math.inf, a))
    return None


def _integer_op(e: Emit, name: str, x: Sequence[Value], dtype: str) -> Value | None:
    a = x[0]
    signed = dtype not in UNSIGNED
    if name in ("add", "sub", "mul"):
        return getattr(e, f"i{name}")(*x)
    if name == "div":
        return _divide(e, a, x[1], signed)
    if name in ("and", "or"):
        return getattr(e, f"{name}_")(*x)
    if name == "xor":
        return e.xor(*x)
    if name == "not":
        return e.xor(a, _like(e, 1 if dtype == "bool" else -1, a))
    if name in ("shl", "shr"):
        return _shift(e, a, x[1], left=name == "shl", signed=signed)
    zero = _like(e, 0, a)
    if name == "neg":
        return e.isub(zero, a)
    if name == "abs":
        return a if not signed else e.select(e.icmp("<", a, zero), e.isub(zero, a), a)
    if name == "relu":
        return a if not signed else e.select(e.icmp("<", a, zero), zero, a)
    if name in _FLOAT_UNARY:
        return a
    if name == "pow":
        return _integer_power(e, *x)
    return None


def apply(e: Emit, name: str, x: Sequence[Value], dtypes: Sequence[str], result: str) -> Value:
    """``name`` of register values ``x`` whose element types are ``dtypes``.

    All of ``x`` have the same number of lanes. Raises KeyError for an unknown operator and
    ValueError for one that does not exist for the type.
    """
    if len(x) != OPS[name].arity:
        raise ValueError(f"{name} takes {OPS[name].arity} operands, got {len(x)}")
    if name == "where":
        return e.select(*x)
    if name == "cast":
        return cast(e, x[0], dtypes[0], result)
    dtype = dtypes[0]
    if name in _COMPARE:
        if is_float(dtype):
            return e.fcmp(_COMPARE[name], *x)
        signed = dtype not in UNSIGNED and dtype != "bool"
        return e.icmp(_COMPARE[name], x[0], x[1], signed)
    if name in ("max", "min"):
        return maximum(e, x[0], x[1], dtype, smallest=name == "min")
    if name == "clip":
        low = maximum(e, x[0], x[1], dtype)
        return maximum(e, low, x[2], dtype, smallest=True)
    if name in ("mod", "fmod"):
        return _modulo(e, x[0], x[1], dtype, c_style=name == "fmod")
    if name == "sign":
        return _sign(e, x[0], dtype)
    value = _float_op(e, name, x) if is_float(dtype) else _integer_op(e, name, x, dtype)
    if value is None:
        raise ValueError(f"no operator {name} for {dtype}")
    return value

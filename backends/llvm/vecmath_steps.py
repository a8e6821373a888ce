"""Steps that several functions of vecmath share: constants, polynomials, scaling by 2^n."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from tilewright.backends.llvm.emit.arith import Arith, Value

MANTISSA = {"f32": 23, "f64": 52}
BIAS = {"f32": 127, "f64": 1023}
INT = {"f16": "i16", "f32": "i32", "f64": "i64"}
# Adding 1.5 * 2^p rounds to an integer, whose two's complement is then in the low mantissa bits.
# Unlike a float-to-int conversion it has no undefined results for NaN.
MAGIC = {"f32": 1.5 * 2.0**23, "f64": 1.5 * 2.0**52}


def fconst(m: Arith, value: float, like: Value) -> Value:
    """``value`` in the type of ``like``, which is a float."""
    return m.const(m.dtype(like), value, m.lanes(like))


def iconst(m: Arith, value: int, like: Value) -> Value:
    """``value`` in the integer type as wide as ``like``."""
    dtype = m.dtype(like)
    return m.const(INT.get(dtype, dtype), value, m.lanes(like))


def horner(m: Arith, x: Value, c: Sequence[float]) -> Value:
    """c[0] + c[1] x + c[2] x^2 + ..., one fma a term."""
    total = fconst(m, c[-1], x)
    for value in reversed(c[:-1]):
        total = m.fma(total, x, fconst(m, value, x))
    return total


def polynomial(m: Arith, x: Value, c: Sequence[float]) -> Value:
    """As `horner` in two interleaved chains over x^2: half the latency, one multiply more."""
    if len(c) < 5:
        return horner(m, x, c)
    square = m.mul(x, x)
    return m.fma(horner(m, square, c[1::2]), x, horner(m, square, c[0::2]))


def split_round(m: Arith, x: Value, scale: float) -> tuple[Value, Value]:
    """n = rint(x * scale) as a float and as an integer. |n| < 2^22 (f32), 2^51 (f64)."""
    magic = fconst(m, MAGIC[m.dtype(x)], x)
    shifted = m.fma(x, fconst(m, scale, x), magic)
    return m.sub(shifted, magic), m.isub(m.bits(shifted), m.bits(magic))


def power_of_two(m: Arith, n: Value, dtype: str) -> Value:
    """2^n for an integer ``n`` within the normal exponents of ``dtype``."""
    biased = m.iadd(n, iconst(m, BIAS[dtype], n))
    return m.from_bits(m.shl(biased, iconst(m, MANTISSA[dtype], n)))


def scale(m: Arith, x: Value, n: Value) -> Value:
    """x * 2^n, correctly rounded for results that overflow or become denormal.

    ``n`` may lie anywhere within twice the exponent range; two exact steps, the last one rounds.
    """
    dtype = m.dtype(x)
    half = m.ashr(n, iconst(m, 1, n))
    first = m.mul(x, power_of_two(m, half, dtype))
    return m.mul(first, power_of_two(m, m.isub(n, half), dtype))


def clamp(m: Arith, x: Value, low: float, high: float) -> Value:
    """x limited to [low, high]; NaN stays NaN."""
    lo, hi = fconst(m, low, x), fconst(m, high, x)
    x = m.select(m.fcmp("<", x, lo), lo, x)
    return m.select(m.fcmp(">", x, hi), hi, x)


def copy_sign(m: Arith, magnitude: Value, sign: Value) -> Value:
    """|magnitude| with the sign bit of ``sign``."""
    mask = iconst(m, -1 << (8 * (4 if m.dtype(sign) == "f32" else 8) - 1), sign)
    bit = m.and_(m.bits(sign), mask)
    return m.from_bits(m.or_(m.bits(m.abs(magnitude)), bit))


def through_f64(
    f: Callable[[Arith, Value], Value],
) -> Callable[[Arith, Value], Value]:
    """``f`` of f32 evaluated in f64 and rounded once: below 0.51 ulp wherever f is good in f64."""

    def wrapped(m: Arith, x: Value) -> Value:
        if m.dtype(x) == "f32":
            return m.fpcast(f(m, m.fpcast(x, "f64")), "f32")
        return f(m, x)

    wrapped.__doc__ = f.__doc__
    wrapped.__name__ = f.__name__
    return wrapped


# ln 2 in two parts, the first short enough that n * LN2_HI is exact for every exponent n.
LN2_HI = {"f32": 0.693145751953125, "f64": float.fromhex("0x1.62e42feep-1")}
LN2_LO = {"f32": 1.42860677e-06, "f64": float.fromhex("0x1.a39ef35793c76p-33")}
LOG2E = 1.0 / math.log(2.0)

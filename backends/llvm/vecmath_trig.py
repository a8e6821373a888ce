"""sin, cos, tan, atan, asin, acos over `Arith`, f32 and f64.

f32 arguments are reduced in f64, so that the remainder is good to f32's last bit near every
multiple of pi/2; beyond 2^27 by Payne and Hanek's method (SIGNUM Newsletter 18(1), 1983) with a
64-bit fraction of x * 2/pi. f64 arguments use Cody and Waite's three parts of pi/2.
"""

from __future__ import annotations

import math
from itertools import pairwise

from tilewright.backends.llvm.emit.arith import Arith, Value
from tilewright.backends.llvm.vecmath_coefficients import (
    ASIN_F64,
    ATAN_F64,
    COS_F32,
    COS_F64,
    SIN_F32,
    SIN_F64,
    TWO_OVER_PI,
)
from tilewright.backends.llvm.vecmath_steps import (
    copy_sign,
    fconst,
    iconst,
    polynomial,
    split_round,
    through_f64,
)

# pi/2 = P1 + P2 + P3: P1 and P2 have 25 bits, so that k * P is exact for k below 2^28.
_P1 = float.fromhex("0x1.921fb5p+0")
_P2 = float.fromhex("0x1.110b46p-26")
_P3 = float.fromhex("0x1.1a62633145c07p-54")
_LARGE = 2.0**27


def _reduce_f64(m: Arith, x: Value) -> tuple[Value, Value]:
    """(r, k) with x = k pi/2 + r, |r| <= pi/4, for f64 |x| <= 2^27."""
    k_float, k = split_round(m, x, 2.0 / math.pi)
    negative = m.neg(k_float)
    r = m.fma(negative, fconst(m, _P1, x), x)
    r = m.fma(negative, fconst(m, _P2, x), r)
    return m.fma(negative, fconst(m, _P3, x), r), k


def _reduce_huge(m: Arith, x: Value) -> tuple[Value, Value]:
    """As `_reduce_f64` for f32 ``x`` with |x| >= 2^24; r is f64, k is i64."""
    raw = m.zext(m.bits(m.abs(x)), "i64")

    def word(value: int) -> Value:
        return m.const("i64", value, m.lanes(x))

    exponent = m.isub(m.lshr(raw, word(23)), word(150))
    mantissa = m.or_(m.and_(raw, word(0x7FFFFF)), word(0x800000))
    # x * 2/pi mod 4 needs the bits of 2/pi from position exponent - 2 on.
    start = m.isub(exponent, word(2))
    index, shift = m.lshr(start, word(5)), m.and_(start, word(31))
    words = []
    for j in range(4):
        value = word(TWO_OVER_PI[j])
        for i in range(1, 4):
            value = m.select(m.icmp("==", index, word(i)), word(TWO_OVER_PI[i + j]), value)
        words.append(value)
    low32 = word(0xFFFFFFFF)
    w = [m.lshr(m.shl(m.or_(m.shl(a, word(32)), b), shift), word(32)) for a, b in pairwise(words)]
    w = [m.and_(v, low32) for v in w]
    product = m.iadd(
        m.shl(m.imul(mantissa, w[0]), word(32)),
        m.iadd(m.imul(mantissa, w[1]), m.lshr(m.imul(mantissa, w[2]), word(32))),
    )
    k = m.lshr(m.iadd(product, word(1 << 61)), word(62))
    fraction = m.itof(m.isub(product, m.shl(k, word(62))), "f64")
    r = m.mul(fraction, m.const("f64", math.pi / 2 * 2.0**-62, m.lanes(x)))
    negative = m.fcmp("<", x, fconst(m, 0.0, x))
    return m.select(negative, m.neg(r), r), m.select(negative, m.isub(word(0), k), k)


def _reduced(m: Arith, x: Value) -> tuple[Value, Value]:
    """(r, k as an integer of x's width) for any finite ``x``; r has x's type. NaN for +-inf."""
    if m.dtype(x) == "f64":
        r, k = _reduce_f64(m, x)
        return m.add(r, m.mul(m.sub(x, x), fconst(m, 0.0, x))), k
    wide = m.fpcast(x, "f64")
    r, k = _reduce_f64(m, wide)
    packed = m.fpcast(r, "f32")
    quadrant = m.itrunc(k, "i32")
    huge = m.fcmp(">", m.abs(x), fconst(m, _LARGE, x))
    # The remainder and the quadrant leave the branch in one i64, since a branch gives one value.
    both = m.or_(
        m.shl(m.zext(quadrant, "i64"), m.const("i64", 32, m.lanes(x))),
        m.zext(m.bits(packed), "i64"),
    )

    def slow() -> Value:
        r_huge, k_huge = _reduce_huge(m, x)
        single = m.zext(m.bits(m.fpcast(r_huge, "f32")), "i64")
        joined = m.or_(m.shl(k_huge, m.const("i64", 32, m.lanes(x))), single)
        return m.select(huge, joined, both)

    both = m.if_any(huge, slow, both)
    r = m.from_bits(m.itrunc(both, "i32"))
    k = m.itrunc(m.lshr(both, m.const("i64", 32, m.lanes(x))), "i32")
    return m.add(r, m.sub(x, x)), k  # inf - inf is NaN, everything else adds 0


def _sin_cos(m: Arith, r: Value) -> tuple[Value, Value]:
    """sin and cos of |r| <= pi/4."""
    single = m.dtype(r) == "f32"
    z = m.mul(r, r)
    s = m.fma(m.mul(z, r), polynomial(m, z, SIN_F32 if single else SIN_F64), r)
    c = m.mul(m.mul(z, z), polynomial(m, z, COS_F32 if single else COS_F64))
    # 1 - z/2 + c: what rounding 1 - z/2 lost is added back.
    half, one = m.mul(fconst(m, 0.5, r), z), fconst(m, 1.0, r)
    w = m.sub(one, half)
    return s, m.add(w, m.add(m.sub(m.sub(one, w), half), c))


def _of_quadrant(m: Arith, s: Value, c: Value, k: Value) -> Value:
    """sin(r + k pi/2) from sin r and cos r."""
    one, two = iconst(m, 1, k), iconst(m, 2, k)
    zero = iconst(m, 0, k)
    value = m.select(m.icmp("!=", m.and_(k, one), zero), c, s)
    return m.select(m.icmp("!=", m.and_(k, two), zero), m.neg(value), value)


def sin(m: Arith, x: Value) -> Value:
    """Sine. f32: <= 1.5 ulp everywhere; f64: <= 2 ulp for |x| <= 1e5, good to 2^27 in absolute
    terms (1e-15), undefined beyond. NaN at +-inf, keeps the sign of zero."""
    r, k = _reduced(m, x)
    y = _of_quadrant(m, *_sin_cos(m, r), k)
    return m.select(m.fcmp("==", x, fconst(m, 0.0, x)), x, y)


def cos(m: Arith, x: Value) -> Value:
    """Cosine. Bounds as for `sin`."""
    r, k = _reduced(m, x)
    return _of_quadrant(m, *_sin_cos(m, r), m.iadd(k, iconst(m, 1, k)))


def tan(m: Arith, x: Value) -> Value:
    """Tangent. f32: <= 3 ulp everywhere; f64: <= 4 ulp for |x| <= 1e5."""
    r, k = _reduced(m, x)
    s, c = _sin_cos(m, r)
    odd = m.icmp("!=", m.and_(k, iconst(m, 1, k)), iconst(m, 0, k))
    y = m.div(m.select(odd, m.neg(c), s), m.select(odd, s, c))
    return m.select(m.fcmp("==", x, fconst(m, 0.0, x)), x, y)


@through_f64
def atan(m: Arith, x: Value) -> Value:
    """Arc tangent. f32: <= 0.6 ulp, f64: <= 3 ulp."""
    one, a = fconst(m, 1.0, x), m.abs(x)
    steep = m.fcmp(">", a, fconst(m, math.tan(3 * math.pi / 8), x))
    middle = m.fcmp(">", a, fconst(m, math.tan(math.pi / 8), x))
    top = m.select(steep, fconst(m, -1.0, x), m.select(middle, m.sub(a, one), a))
    bottom = m.select(steep, a, m.select(middle, m.add(a, one), one))
    base = m.select(
        steep,
        fconst(m, math.pi / 2, x),
        m.select(middle, fconst(m, math.pi / 4, x), fconst(m, 0.0, x)),
    )
    r = m.div(top, bottom)
    z = m.mul(r, r)
    y = m.add(base, m.fma(m.mul(z, r), polynomial(m, z, ATAN_F64), r))
    return copy_sign(m, y, x)


def _asin_tail(m: Arith, z: Value) -> Value:
    """asin(sqrt z)/sqrt z - 1 for z <= 1/4."""
    return m.mul(z, polynomial(m, z, ASIN_F64))


@through_f64
def asin(m: Arith, x: Value) -> Value:
    """Arc sine. f32: <= 0.6 ulp, f64: <= 3 ulp; NaN outside [-1, 1]."""
    half, a = fconst(m, 0.5, x), m.abs(x)
    large = m.fcmp(">", a, half)
    z = m.select(large, m.mul(half, m.sub(fconst(m, 1.0, x), a)), m.mul(a, a))
    s = m.select(large, m.sqrt(z), a)
    y = m.fma(s, _asin_tail(m, z), s)
    folded = m.sub(fconst(m, math.pi / 2, x), m.add(y, y))
    return copy_sign(m, m.select(large, folded, y), x)


@through_f64
def acos(m: Arith, x: Value) -> Value:
    """Arc cosine. f32: <= 0.6 ulp, f64: <= 4 ulp; NaN outside [-1, 1]."""
    half, a = fconst(m, 0.5, x), m.abs(x)
    large = m.fcmp(">", a, half)
    z = m.select(large, m.mul(half, m.sub(fconst(m, 1.0, x), a)), m.mul(a, a))
    s = m.select(large, m.sqrt(z), x)
    y = m.fma(s, _asin_tail(m, z), s)
    double = m.add(y, y)
    negative = m.fcmp("<", x, fconst(m, 0.0, x))
    outer = m.select(negative, m.sub(fconst(m, math.pi, x), double), double)
    return m.select(large, outer, m.sub(fconst(m, math.pi / 2, x), y))

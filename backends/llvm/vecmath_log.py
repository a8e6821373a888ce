"""log, log2, log10, log1p and the inverse hyperbolic functions over `Arith`, f32 and f64.

x = 2^e (1 + f) with 1 + f in [sqrt(1/2), sqrt(2)).
f32: log(1+f) = f - f^2/2 + f^3 P(f). f64: through s = f / (2 + f) as in Sun's fdlibm.
"""

from __future__ import annotations

import math

from tilewright.backends.llvm.emit.arith import Arith, Value
from tilewright.backends.llvm.vecmath_coefficients import LOG_F32, LOG_F64
from tilewright.backends.llvm.vecmath_steps import (
    LN2_HI,
    LN2_LO,
    MANTISSA,
    copy_sign,
    fconst,
    iconst,
    polynomial,
    through_f64,
)

_MIN_NORMAL = {"f32": 2.0**-126, "f64": 2.0**-1022}
_SQRT_HALF = {"f32": 0x3F3504F3, "f64": 0x3FE6A09E667F3BCD}
_MANTISSA_MASK = {"f32": 0x7FFFFF, "f64": 0xFFFFFFFFFFFFF}


def _split(m: Arith, x: Value, denormals: bool) -> tuple[Value, Value]:
    """(f, e as a float) with x = 2^e (1 + f) for positive finite ``x``."""
    dtype = m.dtype(x)
    bits = MANTISSA[dtype]
    if denormals:
        small = m.fcmp("<", x, fconst(m, _MIN_NORMAL[dtype], x))
        x = m.select(small, m.mul(x, fconst(m, 2.0**bits, x)), x)
    shifted = m.isub(m.bits(x), iconst(m, _SQRT_HALF[dtype], x))
    e = m.itof(m.ashr(shifted, iconst(m, bits, x)), dtype)
    if denormals:
        e = m.select(small, m.sub(e, fconst(m, float(bits), x)), e)
    mantissa = m.iadd(
        m.and_(shifted, iconst(m, _MANTISSA_MASK[dtype], x)), iconst(m, _SQRT_HALF[dtype], x)
    )
    return m.sub(m.from_bits(mantissa), fconst(m, 1.0, x)), e


def _special(m: Arith, x: Value, y: Value) -> Value:
    """``y`` with log's values at 0, below 0, at inf and NaN put in."""
    zero, inf = fconst(m, 0.0, x), fconst(m, math.inf, x)
    y = m.select(m.fcmp("<", x, inf), y, x)  # inf and NaN pass through
    y = m.select(m.fcmp("==", x, zero), fconst(m, -math.inf, x), y)
    return m.select(m.fcmp("<", x, zero), fconst(m, math.nan, x), y)


def log_core(m: Arith, f: Value, e: Value, extra: Value | None = None) -> Value:
    """e ln 2 + log(1 + f) + extra, f64."""
    s = m.div(f, m.add(fconst(m, 2.0, f), f))
    z = m.mul(s, s)
    half_square = m.mul(m.mul(fconst(m, 0.5, f), f), f)
    r = m.mul(z, polynomial(m, z, LOG_F64))
    low = m.mul(e, fconst(m, LN2_LO["f64"], f))
    if extra is not None:
        low = m.add(low, extra)
    tail = m.sub(half_square, m.fma(s, m.add(half_square, r), low))
    return m.fma(e, fconst(m, LN2_HI["f64"], f), m.sub(f, tail))


def log(m: Arith, x: Value) -> Value:
    """Natural logarithm. f32: <= 1.5 ulp, f64: <= 1.5 ulp; denormals are exact arguments."""
    f, e = _split(m, x, denormals=True)
    if m.dtype(x) == "f64":
        return _special(m, x, log_core(m, f, e))
    z = m.mul(f, f)
    y = m.mul(m.mul(z, f), polynomial(m, f, LOG_F32))
    y = m.fma(e, fconst(m, LN2_LO["f32"], x), y)
    y = m.fma(z, fconst(m, -0.5, x), y)
    y = m.fma(e, fconst(m, LN2_HI["f32"], x), m.add(f, y))
    return _special(m, x, y)


@through_f64
def log2(m: Arith, x: Value) -> Value:
    """Logarithm to base 2. f32: <= 0.6 ulp, f64: <= 4 ulp; exact for powers of two."""
    f, e = _split(m, x, denormals=True)
    zero = fconst(m, 0.0, x)
    return _special(m, x, m.fma(log_core(m, f, zero), fconst(m, 1 / math.log(2), x), e))


@through_f64
def log10(m: Arith, x: Value) -> Value:
    """Logarithm to base 10. f32: <= 0.6 ulp, f64: <= 4 ulp."""
    return m.mul(log(m, x), fconst(m, 1 / math.log(10), x))


def _log1p(m: Arith, x: Value) -> Value:
    one = fconst(m, 1.0, x)
    u = m.add(one, x)
    # What rounding 1 + x lost, recovered exactly on either side of 1 (fdlibm).
    lost = m.select(m.fcmp(">", x, one), m.sub(one, m.sub(u, x)), m.sub(x, m.sub(u, one)))
    f, e = _split(m, u, denormals=False)
    y = _special(m, u, log_core(m, f, e, m.div(lost, u)))
    return y


@through_f64
def log1p(m: Arith, x: Value) -> Value:
    """log(1 + x). f32: <= 0.6 ulp, f64: <= 3 ulp; keeps the sign of zero."""
    return m.select(m.fcmp("==", x, fconst(m, 0.0, x)), x, _log1p(m, x))


@through_f64
def atanh(m: Arith, x: Value) -> Value:
    """Inverse hyperbolic tangent. f32: <= 0.6 ulp, f64: <= 4 ulp; +-inf at +-1, NaN beyond."""
    one, a = fconst(m, 1.0, x), m.abs(x)
    y = m.mul(fconst(m, 0.5, x), _log1p(m, m.div(m.add(a, a), m.sub(one, a))))
    return copy_sign(m, m.select(m.fcmp(">", a, one), fconst(m, math.nan, x), y), x)


@through_f64
def asinh(m: Arith, x: Value) -> Value:
    """Inverse hyperbolic sine. f32: <= 0.6 ulp, f64: <= 4 ulp."""
    one, a = fconst(m, 1.0, x), m.abs(x)
    large = m.fcmp(">", a, fconst(m, 2.0**28, x))
    b = m.select(large, one, a)
    square = m.mul(b, b)
    near = _log1p(m, m.add(b, m.div(square, m.add(one, m.sqrt(m.add(one, square))))))
    far = m.add(log(m, a), fconst(m, math.log(2), x))
    return copy_sign(m, m.select(large, far, near), x)


@through_f64
def acosh(m: Arith, x: Value) -> Value:
    """Inverse hyperbolic cosine. f32: <= 0.6 ulp, f64: <= 4 ulp; NaN below 1."""
    one = fconst(m, 1.0, x)
    large = m.fcmp(">", x, fconst(m, 2.0**28, x))
    t = m.sub(m.select(large, one, x), one)
    near = _log1p(m, m.add(t, m.sqrt(m.fma(t, t, m.add(t, t)))))
    far = m.add(log(m, x), fconst(m, math.log(2), x))
    y = m.select(large, far, near)
    return m.select(m.fcmp("<", x, one), fconst(m, math.nan, x), y)

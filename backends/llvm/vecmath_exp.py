"""exp, exp2, expm1, tanh, sinh, cosh over `Arith`, for f32 and f64.

e^x = 2^n e^r with n = rint(x / ln 2) and |r| <= 0.3466 (Cody and Waite's two-part ln 2), then
e^r = 1 + (r + r^2 q(r)) with a minimax q.
"""

from __future__ import annotations

from tilewright.backends.llvm.emit.arith import Arith, Value
from tilewright.backends.llvm.vecmath_coefficients import EXP2_F32, EXP2_F64, EXP_F32, EXP_F64
from tilewright.backends.llvm.vecmath_steps import (
    LN2_HI,
    LN2_LO,
    LOG2E,
    clamp,
    copy_sign,
    fconst,
    polynomial,
    power_of_two,
    scale,
    split_round,
    through_f64,
)

_EXP = {"f32": EXP_F32, "f64": EXP_F64}
_EXP2 = {"f32": EXP2_F32, "f64": EXP2_F64}
# Beyond these e^x is 0 or inf in every rounding.
_RANGE = {"f32": (-105.0, 90.0), "f64": (-746.0, 711.0)}


def exp_parts(m: Arith, x: Value) -> tuple[Value, Value]:
    """(e^r - 1, n) with e^x = 2^n e^r; ``x`` within `_RANGE` or NaN."""
    dtype = m.dtype(x)
    n_float, n = split_round(m, x, LOG2E)
    negative = m.neg(n_float)
    r = m.fma(negative, fconst(m, LN2_HI[dtype], x), x)
    r = m.fma(negative, fconst(m, LN2_LO[dtype], x), r)
    q = polynomial(m, r, _EXP[dtype])
    return m.fma(m.mul(r, r), q, r), n


def exp(m: Arith, x: Value) -> Value:
    """e^x. f32: <= 1.1 ulp, f64: <= 1.1 ulp; denormal results are rounded once, never flushed."""
    p, n = exp_parts(m, clamp(m, x, *_RANGE[m.dtype(x)]))
    return scale(m, m.add(p, fconst(m, 1.0, x)), n)


def exp_nonpositive(m: Arith, x: Value) -> Value:
    """e^x for x <= 0 (or NaN): as `exp`, but results below 2^-126.5 (2^-1022.5) are 0.

    One multiplication instead of two and no upper clamp: for terms of a sum that holds a 1.
    """
    dtype = m.dtype(x)
    # ln(2) times -127 (-1023), where `power_of_two` gives the bits of 0.
    low = fconst(m, -88.03 if dtype == "f32" else -709.09, x)
    p, n = exp_parts(m, m.select(m.fcmp("<", x, low), low, x))
    return m.mul(m.add(p, fconst(m, 1.0, x)), power_of_two(m, n, dtype))


def exp2(m: Arith, x: Value) -> Value:
    """2^x. <= 1.1 ulp for f32 and f64."""
    low, high = (-151.0, 129.0) if m.dtype(x) == "f32" else (-1076.0, 1025.0)
    x = clamp(m, x, low, high)
    n_float, n = split_round(m, x, 1.0)
    r = m.sub(x, n_float)
    q = polynomial(m, r, _EXP2[m.dtype(x)])
    return scale(m, m.fma(q, r, fconst(m, 1.0, x)), n)


def _expm1(m: Arith, x: Value) -> Value:
    # 2^n (p + (1 - 2^-n)): no cancellation, and exactly p for n = 0.
    x = clamp(m, x, -50.0, 711.0)
    p, n = exp_parts(m, x)
    zero = fconst(m, 0.0, x)
    inverse = power_of_two(m, m.isub(m.bits(zero), n), "f64")
    inverse = m.select(m.fcmp(">", x, fconst(m, 60.0, x)), zero, inverse)
    y = m.add(p, m.sub(fconst(m, 1.0, x), inverse))
    return scale(m, y, n)


@through_f64
def expm1(m: Arith, x: Value) -> Value:
    """e^x - 1. f32: <= 0.6 ulp, f64: <= 3 ulp; keeps the sign of zero."""
    return m.select(m.fcmp("==", x, fconst(m, 0.0, x)), x, _expm1(m, x))


def tanh(m: Arith, x: Value) -> Value:
    """Hyperbolic tangent. f32: <= 2.5 ulp, f64: <= 3 ulp.

    With e^2|x| = 2^n (1 + p) it is (p + (1 - 2^-n)) / (p + (1 + 2^-n)): the scale cancels and
    nothing cancels near 0. Beyond 0.6 the same quotient as 1 - 2^(1-n) / (p + (1 + 2^-n)).
    """
    dtype = m.dtype(x)
    limit = 18.1 if dtype == "f32" else 38.2
    one = fconst(m, 1.0, x)
    double = m.abs(x)
    double = m.add(double, double)
    top = fconst(m, limit, x)
    p, n = exp_parts(m, m.select(m.fcmp(">", double, top), top, double))
    inverse = power_of_two(m, m.isub(m.bits(fconst(m, 0.0, x)), n), dtype)
    far = m.fcmp(">", double, fconst(m, 1.2, x))
    top = m.select(far, m.mul(fconst(m, -2.0, x), inverse), m.add(p, m.sub(one, inverse)))
    y = m.div(top, m.add(p, m.add(one, inverse)))
    return copy_sign(m, m.add(y, m.select(far, one, fconst(m, 0.0, x))), x)


@through_f64
def sinh(m: Arith, x: Value) -> Value:
    """Hyperbolic sine. f32: <= 0.6 ulp, f64: <= 4 ulp."""
    half, a = fconst(m, 0.5, x), m.abs(x)
    big = m.fcmp(">", a, fconst(m, 22.0, x))
    t = _expm1(m, m.select(big, fconst(m, 1.0, x), a))
    small = m.mul(half, m.add(t, m.div(t, m.add(t, fconst(m, 1.0, x)))))
    root = exp(m, m.mul(half, a))
    large = m.mul(m.mul(half, root), root)
    return copy_sign(m, m.select(big, large, small), x)


@through_f64
def cosh(m: Arith, x: Value) -> Value:
    """Hyperbolic cosine. f32: <= 0.6 ulp, f64: <= 4 ulp."""
    half, a = fconst(m, 0.5, x), m.abs(x)
    root = exp(m, m.mul(half, a))
    e = m.mul(root, root)
    # For large arguments the square overflows one binade before the result does.
    large = m.mul(m.mul(half, root), root)
    small = m.fma(half, e, m.div(half, e))
    return m.select(m.fcmp(">", a, fconst(m, 22.0, x)), large, small)

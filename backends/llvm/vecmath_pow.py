"""x^y over `Arith` with the special cases of IEEE 754-2019 §9.2 (C's pow)."""

from __future__ import annotations

import math

from tilewright.backends.llvm.emit.arith import Arith, Value
from tilewright.backends.llvm.vecmath_exp import exp2
from tilewright.backends.llvm.vecmath_log import log2
from tilewright.backends.llvm.vecmath_steps import fconst


def _pow_f64(m: Arith, x: Value, y: Value) -> Value:
    zero, one = fconst(m, 0.0, x), fconst(m, 1.0, x)
    inf, nan = fconst(m, math.inf, x), fconst(m, math.nan, x)
    a = m.abs(x)
    power = exp2(m, m.mul(y, log2(m, a)))
    half = m.mul(y, fconst(m, 0.5, x))
    integer = m.fcmp("==", m.floor(y), y)
    odd = m.and_(integer, m.fcmp("!=", m.floor(half), half))
    # The sign bit of x, also of -0 and of -inf, counts for odd y only.
    below = m.icmp("<", m.bits(x), m.bits(zero))
    power = m.select(m.and_(below, odd), m.neg(power), power)
    finite = m.fcmp("<", a, inf)
    negative = m.and_(m.fcmp("<", x, zero), finite)
    broken = m.and_(negative, m.and_(m.fcmp("!=", m.floor(y), y), m.fcmp("==", y, y)))
    power = m.select(broken, nan, power)
    # 0 * log2(1) with y = +-inf, and |x| = 1 in general: exactly 1.
    unit_inf = m.and_(m.fcmp("==", a, one), m.fcmp("==", m.abs(y), inf))
    trivial = m.or_(m.fcmp("==", y, zero), m.fcmp("==", x, one))
    return m.select(m.or_(trivial, unit_inf), one, power)


def pow_(m: Arith, x: Value, y: Value) -> Value:
    """x^y. f32: <= 1 ulp (evaluated in f64); f64: relative error below
    3e-16 * (2 + |y log2 x|), which is 200 ulp for results near 2^1000.

    pow(x, +-0) = pow(1, y) = 1 even for NaN; negative x with a non-integer y gives NaN;
    signed zeros and infinities follow the parity of y.
    """
    if m.dtype(x) == "f32":
        return m.fpcast(_pow_f64(m, m.fpcast(x, "f64"), m.fpcast(y, "f64")), "f32")
    return _pow_f64(m, x, y)

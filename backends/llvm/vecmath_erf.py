"""The error function over `Arith`, f32 and f64.

Small arguments: x + x P(x^2). f32 beyond 0.92: 1 - 2^h(|x|) with h(t) = log2(erfc(t)), t times a
polynomial. f64 beyond 1: 1 - e^(-x^2) Q(u), u = (|x| - 2.5) / (|x| + 2).
"""

from __future__ import annotations

from tilewright.backends.llvm.emit.arith import Arith, Value
from tilewright.backends.llvm.vecmath_coefficients import (
    ERF_F32,
    ERF_F64,
    ERFC_F64,
    ERFC_LOG2_F32,
    EXP2_F32,
    GELU_LOG2_F32,
)
from tilewright.backends.llvm.vecmath_exp import exp
from tilewright.backends.llvm.vecmath_steps import (
    copy_sign,
    fconst,
    polynomial,
    power_of_two,
    split_round,
)


def _exp2_normal(m: Arith, h: Value, terms: tuple[float, ...]) -> Value:
    """2^h for h in [-127, 0] (f32); below -126.5 it is 0."""
    n_float, n = split_round(m, h, 1.0)
    r = m.sub(h, n_float)
    y = m.fma(polynomial(m, r, terms), r, fconst(m, 1.0, h))
    return m.mul(y, power_of_two(m, n, "f32"))


def erfc_of_gelu(m: Arith, t: Value) -> Value:
    """erfc(t) for t >= 0, f32, with the relative error that GELU needs.

    Relative error below 4e-7 for t <= 2, growing to 1e-4 where erfc is below 1e-10; 0 beyond
    t = 9.3 (where erfc is below 2e-39).
    """
    h = m.mul(t, polynomial(m, t, GELU_LOG2_F32))
    low = fconst(m, -127.0, t)
    return _exp2_normal(m, m.select(m.fcmp("<", h, low), low, h), EXP2_F32)


def erf(m: Arith, x: Value) -> Value:
    """The error function. f32: <= 2 ulp, f64: <= 3 ulp."""
    a, one = m.abs(x), fconst(m, 1.0, x)
    square = m.mul(x, x)
    if m.dtype(x) == "f32":
        near = m.fma(a, polynomial(m, square, ERF_F32), a)
        top = fconst(m, 4.0, x)
        t = m.select(m.fcmp(">", a, top), top, a)
        far = m.sub(one, _exp2_normal(m, m.mul(t, polynomial(m, t, ERFC_LOG2_F32)), EXP2_F32))
        y = m.select(m.fcmp(">", a, fconst(m, 0.92, x)), far, near)
    else:
        near = m.fma(a, polynomial(m, square, ERF_F64), a)
        top = fconst(m, 6.0, x)
        t = m.select(m.fcmp(">", a, top), top, a)
        u = m.div(m.sub(t, fconst(m, 2.5, x)), m.add(t, fconst(m, 2.0, x)))
        far = m.sub(one, m.mul(exp(m, m.neg(m.mul(t, t))), polynomial(m, u, ERFC_F64)))
        y = m.select(m.fcmp(">", a, one), far, near)
    return copy_sign(m, y, x)

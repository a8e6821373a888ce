"""Activations of neural networks over `Arith`, f32 and f64."""

from __future__ import annotations

import math

from tilewright.backends.llvm.emit.arith import Arith, Value
from tilewright.backends.llvm.vecmath_erf import erf, erfc_of_gelu
from tilewright.backends.llvm.vecmath_exp import exp, exp_nonpositive
from tilewright.backends.llvm.vecmath_log import log1p
from tilewright.backends.llvm.vecmath_steps import fconst


def sigmoid(m: Arith, x: Value) -> Value:
    """1 / (1 + e^-x). <= 2.5 ulp, also in the lower tail, where the result is e^x."""
    one = fconst(m, 1.0, x)
    e = exp(m, m.neg(m.abs(x)))
    top = m.select(m.fcmp("<", x, fconst(m, 0.0, x)), e, one)
    return m.div(top, m.add(one, e))


def silu(m: Arith, x: Value) -> Value:
    """x * sigmoid(x). f32: error below 4e-7 * max(|result|, 1e-29); e^x below 2^-126.5 is 0."""
    one, zero = fconst(m, 1.0, x), fconst(m, 0.0, x)
    e = exp_nonpositive(m, m.neg(m.abs(x)))
    top = m.select(m.fcmp("<", x, zero), e, one)
    y = m.div(m.mul(x, top), m.add(one, e))
    return m.select(m.fcmp("==", x, fconst(m, -math.inf, x)), zero, y)


def gelu_erf(m: Arith, x: Value) -> Value:
    """x/2 * (1 + erf(x / sqrt 2)).

    f32: max(x, 0) - |x|/2 * erfc(|x| / sqrt 2), which has no cancellation on either side and
    needs one polynomial; error below 1e-6 * max(|result|, 0.01). f64: from erf.
    """
    zero = fconst(m, 0.0, x)
    if m.dtype(x) == "f64":
        inner = m.add(fconst(m, 1.0, x), erf(m, m.mul(x, fconst(m, math.sqrt(0.5), x))))
        y = m.mul(m.mul(fconst(m, 0.5, x), x), inner)
        return m.select(m.fcmp("==", x, fconst(m, -math.inf, x)), zero, y)
    a = m.abs(x)
    # Beyond 14 the second term is below 1e-43; the limit keeps inf * 0 away.
    top = fconst(m, 14.0, x)
    a = m.select(m.fcmp(">", a, top), top, a)
    tail = m.mul(
        m.mul(fconst(m, -0.5, x), a), erfc_of_gelu(m, m.mul(a, fconst(m, math.sqrt(0.5), x)))
    )
    return m.add(m.select(m.fcmp("<", x, zero), zero, x), tail)


def gelu_tanh(m: Arith, x: Value) -> Value:
    """x/2 * (1 + tanh(u)), u = sqrt(2/pi) (x + 0.044715 x^3), evaluated as x * sigmoid(2u).

    f32: error below 1e-6 * max(|result|, 0.01).
    """
    one, zero = fconst(m, 1.0, x), fconst(m, 0.0, x)
    c = 2.0 * math.sqrt(2.0 / math.pi)
    a = m.abs(x)
    # Beyond 64 the sigmoid is 0 or 1; the limit keeps inf - inf out of the polynomial.
    top = fconst(m, 64.0, x)
    a = m.select(m.fcmp(">", a, top), top, a)
    square = m.mul(a, a)
    inner = m.fma(square, fconst(m, -0.044715 * c, x), fconst(m, -c, x))
    e = exp_nonpositive(m, m.mul(a, inner))
    negative = m.fcmp("<", x, zero)
    y = m.div(m.mul(x, m.select(negative, e, one)), m.add(one, e))
    return m.select(m.fcmp("==", x, fconst(m, -math.inf, x)), zero, y)


def softplus(m: Arith, x: Value) -> Value:
    """log(1 + e^x) = max(x, 0) + log1p(e^-|x|). Relative error below 2e-7 (f32)."""
    zero = fconst(m, 0.0, x)
    tail = log1p(m, exp(m, m.neg(m.abs(x))))
    return m.add(m.select(m.fcmp("<", x, zero), zero, x), tail)

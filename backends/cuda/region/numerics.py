"""Operators of f32 that a GPU has a shorter way to than `llvm/vecmath*`, within the same bounds.

CUDA's own expf, logf, tanhf, erff and the like err by at most 2 units in the last place (CUDA C++
programming guide, mathematical functions): the special function unit does most of it. Seen on an
H200 for 8 M numbers: exp 1.9, exp2 2.1, log 0.9, log10 2.1, tanh 1.8, erf 1.1, expm1 1.4, log1p
0.9, sigmoid 3.3, softplus 2.6; gelu_erf is within what `vecmath_activation` states there, silu and
gelu_tanh are with the C++ run on a CPU.
Quotients by numbers known to be moderate take one Newton step on its reciprocal: fma leaves the
exact remainder, so that they are rounded correctly but for denormal numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from tilewright.backends.cuda.region.arith import CudaArith, CudaValue
from tilewright.backends.llvm.vecmath_coefficients import GELU_LOG2_F32
from tilewright.backends.llvm.vecmath_steps import polynomial

_LIBRARY = {
    "exp": "expf", "exp2": "exp2f", "expm1": "expm1f", "log": "logf", "log2": "log2f",
    "log10": "log10f", "log1p": "log1pf", "tanh": "tanhf", "erf": "erff",
}  # fmt: skip


def _const(m: CudaArith, value: float) -> CudaValue:
    return m.const("f32", value)


def _call(m: CudaArith, function: str, *x: CudaValue) -> CudaValue:
    return m.new("f32", f"{function}({', '.join(v.text for v in x)})")


def quotient(m: CudaArith, x: CudaValue, y: CudaValue, inverse: CudaValue) -> CudaValue:
    """x / y for |y| between 2^-100 and 2^100 and ``inverse`` about 1 / y; any x."""
    q = m.mul(x, inverse)
    rest = m.fma(m.neg(q), y, x)
    better = m.fma(rest, inverse, q)
    # An infinite x leaves inf - inf.
    return m.select(m.fcmp("==", better, better), better, q)


def _by_moderate(m: CudaArith, x: CudaValue, y: CudaValue) -> CudaValue:
    return quotient(m, x, y, _call(m, "tw_reciprocal", y))


def _exp_below(m: CudaArith, x: CudaValue) -> tuple[CudaValue, CudaValue]:
    """(e^-|x|, whether x < 0)"""
    return _call(m, "expf", m.neg(m.abs(x))), m.fcmp("<", x, _const(m, 0.0))


def _sigmoid(m: CudaArith, x: CudaValue) -> CudaValue:
    one = _const(m, 1.0)
    e, below = _exp_below(m, x)
    return _by_moderate(m, m.select(below, e, one), m.add(one, e))


def _gated(m: CudaArith, x: CudaValue, power: CudaValue) -> CudaValue:
    """x / (1 + power), 0 for -inf; 4 units in the last place, where the power overflows 0."""
    y = m.mul(x, _call(m, "tw_reciprocal", m.add(_const(m, 1.0), power)))
    return m.select(m.fcmp("==", x, _const(m, -math.inf)), _const(m, 0.0), y)


def _silu(m: CudaArith, x: CudaValue) -> CudaValue:
    return _gated(m, x, _call(m, "expf", m.neg(x)))


def _gelu_erf(m: CudaArith, x: CudaValue) -> CudaValue:
    """As `vecmath_activation.gelu_erf`, with the last power of two approximate: 2^-22 of a tail."""
    a = _call(m, "fminf", m.abs(x), _const(m, 14.0))
    t = m.mul(a, _const(m, math.sqrt(0.5)))
    power = m.mul(t, polynomial(m, t, GELU_LOG2_F32))
    tail = _call(m, "tw_exp2", _call(m, "fmaxf", power, _const(m, -127.0)))
    return m.fma(m.mul(_const(m, -0.5), a), tail, extreme(m, x, _const(m, 0.0), False))


def _gelu_tanh(m: CudaArith, x: CudaValue) -> CudaValue:
    """x * sigmoid(2 u), u = sqrt(2/pi) (x + 0.044715 x^3)."""
    c = 2.0 * math.sqrt(2.0 / math.pi)
    inner = m.fma(m.mul(x, x), _const(m, -0.044715 * c), _const(m, -c))
    return _gated(m, x, _call(m, "expf", m.mul(x, inner)))


def _softplus(m: CudaArith, x: CudaValue) -> CudaValue:
    e, _ = _exp_below(m, x)
    return m.add(extreme(m, x, _const(m, 0.0), False), _call(m, "log1pf", e))


_OWN: dict[str, Callable[[CudaArith, CudaValue], CudaValue]] = {
    "gelu_erf": _gelu_erf,
    "gelu_tanh": _gelu_tanh,
    "sigmoid": _sigmoid,
    "silu": _silu,
    "softplus": _softplus,
}


def extreme(m: CudaArith, x: CudaValue, y: CudaValue, smallest: bool) -> CudaValue:
    """max or min of f32; NaN if either is."""
    return _call(m, "tw_lesser" if smallest else "tw_greater", x, y)


def shorter(m: CudaArith, name: str, x: list[CudaValue]) -> CudaValue | None:
    """Operator ``name`` of f32 values, None where there is no shorter way."""
    if name in _LIBRARY:
        return _call(m, _LIBRARY[name], *x)
    if name in _OWN:
        return _OWN[name](m, x[0])
    if name in ("max", "min"):
        return extreme(m, x[0], x[1], name == "min")
    if name == "clip":
        return extreme(m, extreme(m, x[0], x[1], False), x[2], True)
    return None

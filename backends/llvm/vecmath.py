"""Our own exp, log, erf, tanh, ... : entry points for llvmlite code.

    y = emit_exp(builder, x)            # x: float, double, <n x float> or <n x double>
    y = emit_gelu_erf(builder, x, fma=target.fma)

``x`` may be a scalar or a vector, the result has its type. Pass ``fma=False`` for targets without
fused multiply-add. No call to libm is ever emitted. The formulas, error bounds and special cases
are in `vecmath_exp`, `vecmath_log`, `vecmath_erf` and `vecmath_trig`; the same functions serve
MLIR and numpy through `emit.arith.Arith`. Half precision: widen to f32 first.

Largest errors seen in tests/backends/test_vecmath.py, in units in the last place of f32 (with FMA):
exp, log, tanh, erf, sigmoid, sin, cos and the rest below 2.5; pow and every function that is
evaluated in f64 (log1p, expm1, tan, atan, asin, acos, sinh, ... of f32) below 1.
"""

from __future__ import annotations

from collections.abc import Callable

from llvmlite import ir

from tilewright.backends.llvm.emit.arith import Arith, Value
from tilewright.backends.llvm.emit.llvm_arith import LlvmArith
from tilewright.backends.llvm.vecmath_activation import (
    gelu_erf,
    gelu_tanh,
    sigmoid,
    silu,
    softplus,
)
from tilewright.backends.llvm.vecmath_erf import erf
from tilewright.backends.llvm.vecmath_exp import cosh, exp, exp2, expm1, sinh, tanh
from tilewright.backends.llvm.vecmath_log import acosh, asinh, atanh, log, log1p, log2, log10
from tilewright.backends.llvm.vecmath_pow import pow_
from tilewright.backends.llvm.vecmath_trig import acos, asin, atan, cos, sin, tan

UNARY: dict[str, Callable[[Arith, Value], Value]] = {
    "acos": acos,
    "acosh": acosh,
    "asin": asin,
    "asinh": asinh,
    "atan": atan,
    "atanh": atanh,
    "cos": cos,
    "cosh": cosh,
    "erf": erf,
    "exp": exp,
    "exp2": exp2,
    "expm1": expm1,
    "gelu_erf": gelu_erf,
    "gelu_tanh": gelu_tanh,
    "log": log,
    "log10": log10,
    "log1p": log1p,
    "log2": log2,
    "sigmoid": sigmoid,
    "silu": silu,
    "sin": sin,
    "sinh": sinh,
    "softplus": softplus,
    "tan": tan,
    "tanh": tanh,
}
"""Every unary function by the name that region bodies use. f32 and f64."""


def emit_unary(builder: ir.IRBuilder, name: str, x: ir.Value, fma: bool = True) -> ir.Value:
    """``name`` of ``x`` (a key of UNARY). Raises KeyError for an unknown name."""
    return UNARY[name](LlvmArith(builder, fma), x)


def emit_exp(builder: ir.IRBuilder, x: ir.Value, fma: bool = True) -> ir.Value:
    """e^x; 0 below about -104, inf above 88.72 (f32)."""
    return exp(LlvmArith(builder, fma), x)


def emit_exp2(builder: ir.IRBuilder, x: ir.Value, fma: bool = True) -> ir.Value:
    """2^x."""
    return exp2(LlvmArith(builder, fma), x)


def emit_expm1(builder: ir.IRBuilder, x: ir.Value, fma: bool = True) -> ir.Value:
    """e^x - 1 without cancellation."""
    return expm1(LlvmArith(builder, fma), x)


def emit_log(builder: ir.IRBuilder, x: ir.Value, fma: bool = True) -> ir.Value:
    """Natural logarithm; NaN below 0, -inf at +-0."""
    return log(LlvmArith(builder, fma), x)


def emit_log1p(builder: ir.IRBuilder, x: ir.Value, fma: bool = True) -> ir.Value:
    """log(1 + x) without cancellation."""
    return log1p(LlvmArith(builder, fma), x)


def emit_erf(builder: ir.IRBuilder, x: ir.Value, fma: bool = True) -> ir.Value:
    """The error function."""
    return erf(LlvmArith(builder, fma), x)


def emit_tanh(builder: ir.IRBuilder, x: ir.Value, fma: bool = True) -> ir.Value:
    """Hyperbolic tangent."""
    return tanh(LlvmArith(builder, fma), x)


def emit_sigmoid(builder: ir.IRBuilder, x: ir.Value, fma: bool = True) -> ir.Value:
    """1 / (1 + e^-x), accurate in both tails."""
    return sigmoid(LlvmArith(builder, fma), x)


def emit_silu(builder: ir.IRBuilder, x: ir.Value, fma: bool = True) -> ir.Value:
    """x * sigmoid(x)."""
    return silu(LlvmArith(builder, fma), x)


def emit_gelu_erf(builder: ir.IRBuilder, x: ir.Value, fma: bool = True) -> ir.Value:
    """x/2 * (1 + erf(x / sqrt 2)); f32 in one polynomial, see `vecmath_activation.gelu_erf`."""
    return gelu_erf(LlvmArith(builder, fma), x)


def emit_gelu_tanh(builder: ir.IRBuilder, x: ir.Value, fma: bool = True) -> ir.Value:
    """x/2 * (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))."""
    return gelu_tanh(LlvmArith(builder, fma), x)


def emit_softplus(builder: ir.IRBuilder, x: ir.Value, fma: bool = True) -> ir.Value:
    """log(1 + e^x)."""
    return softplus(LlvmArith(builder, fma), x)


def emit_sin(builder: ir.IRBuilder, x: ir.Value, fma: bool = True) -> ir.Value:
    """Sine of radians."""
    return sin(LlvmArith(builder, fma), x)


def emit_cos(builder: ir.IRBuilder, x: ir.Value, fma: bool = True) -> ir.Value:
    """Cosine of radians."""
    return cos(LlvmArith(builder, fma), x)


def emit_pow(builder: ir.IRBuilder, x: ir.Value, y: ir.Value, fma: bool = True) -> ir.Value:
    """x^y with the special cases of IEEE 754 `pow`; x and y have one type."""
    return pow_(LlvmArith(builder, fma), x, y)

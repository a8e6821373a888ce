"""Elementwise operations: exact integers, floats computed wide and rounded once."""

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import special

from tilewright.backends.reference.casting import cast, int_view, truncating_divide, wrapped
from tilewright.backends.reference.interpreter import Array, Context, reference
from tilewright.compiler.ir.core import Op
from tilewright.compiler.ir.ops import binary, unary
from tilewright.compiler.ir.types import DType


def _at_minus_inf(x: Array, y: Any) -> Array:
    """`y`, with the limit 0 at -inf, where the formula is inf * 0."""
    return np.where(np.isneginf(x), 0.0, y)


def _gelu_tanh(x: Array) -> Array:
    return _at_minus_inf(x, x * special.expit(np.sqrt(8 / np.pi) * (x + 0.044715 * x**3)))


def _gelu(x: Array) -> Array:
    # ndtr keeps its relative accuracy in the left tail, where 1 + erf cancels.
    return _at_minus_inf(x, x * special.ndtr(x))


def _silu(x: Array) -> Array:
    return _at_minus_inf(x, x * special.expit(x))


_FLOAT_UNARY: dict[type[Op], Callable[[Array], Any]] = {
    unary.Sqrt: np.sqrt,
    unary.Exp: np.exp,
    unary.Log: np.log,
    unary.Erf: special.erf,
    unary.Tanh: np.tanh,
    unary.Sin: np.sin,
    unary.Cos: np.cos,
    unary.Tan: np.tan,
    unary.Asin: np.arcsin,
    unary.Acos: np.arccos,
    unary.Atan: np.arctan,
    unary.Sinh: np.sinh,
    unary.Cosh: np.cosh,
    unary.Asinh: np.arcsinh,
    unary.Acosh: np.arccosh,
    unary.Atanh: np.arctanh,
    unary.Ceil: np.ceil,
    unary.Floor: np.floor,
    unary.Round: np.rint,
    unary.Trunc: np.trunc,
    unary.Sigmoid: special.expit,
    unary.Silu: _silu,
    unary.Gelu: _gelu,
    unary.GeluTanh: _gelu_tanh,
    unary.Softplus: lambda x: np.logaddexp(x, 0.0),
    unary.Reciprocal: lambda x: 1.0 / x,
}

_ANY_UNARY: dict[type[Op], Callable[[Array], Any]] = {
    unary.Neg: np.negative,
    unary.Abs: np.abs,
    unary.Sign: np.sign,
    unary.Relu: lambda x: np.maximum(x, x.dtype.type(0)),
}


@reference(*_FLOAT_UNARY)
def _float_unary(op: Any, at: Context, x: Array) -> Array:
    """Transcendental functions are computed in float64 for every type and rounded once."""
    return at.rounded(_FLOAT_UNARY[type(op)](x.astype(np.float64)), op.x.dtype)


@reference(*_ANY_UNARY)
def _any_unary(op: Any, at: Context, x: Array) -> Array:
    dtype = op.x.dtype
    function = _ANY_UNARY[type(op)]
    if dtype.is_float:
        return at.rounded(function(x.astype(at.compute(dtype))), dtype)
    return wrapped(function(int_view(x, dtype)), dtype)


@reference(unary.IsNan)
def _is_nan(op: unary.IsNan, at: Context, x: Array) -> Array:
    return np.isnan(x.astype(np.float64))


@reference(unary.IsInf)
def _is_inf(op: unary.IsInf, at: Context, x: Array) -> Array:
    wide = x.astype(np.float64)
    return (np.isposinf(wide) & op.positive) | (np.isneginf(wide) & op.negative)


@reference(unary.Not)
def _logical_not(op: unary.Not, at: Context, x: Array) -> Array:
    return ~x


@reference(unary.BitNot)
def _bit_not(op: unary.BitNot, at: Context, x: Array) -> Array:
    return wrapped(~int_view(x, op.x.dtype), op.x.dtype)


@reference(unary.Cast)
def _convert(op: unary.Cast, at: Context, x: Array) -> Array:
    if at.carrier(op.dtype) != op.dtype.numpy:
        return x.astype(at.carrier(op.dtype))
    return cast(x, op.x.dtype, op.dtype, op.saturate)


@reference(unary.Bitcast)
def _bitcast(op: unary.Bitcast, at: Context, x: Array) -> Array:
    bits = np.ascontiguousarray(x.astype(op.x.dtype.numpy, copy=False)).view(op.dtype.numpy)
    return bits.reshape(x.shape).astype(at.carrier(op.dtype), copy=False)


def _fmod(a: Array, b: Array) -> Array:
    if a.dtype.kind == "f":
        return np.asarray(np.fmod(a, b))
    return np.asarray(np.where(b == 0, a.dtype.type(0), a - truncating_divide(a, b) * b))


def _mod(a: Array, b: Array) -> Array:
    if a.dtype.kind == "f":
        return np.asarray(np.mod(a, b))
    rest = _fmod(a, b)
    return np.where((rest != 0) & ((rest < 0) != (b < 0)), rest + b, rest)


def _div(a: Array, b: Array) -> Array:
    return np.asarray(a / b) if a.dtype.kind == "f" else truncating_divide(a, b)


def _pow(a: Array, b: Array) -> Array:
    if a.dtype.kind == "f":
        return np.power(a.astype(np.float64), b.astype(np.float64))
    a, b = np.broadcast_arrays(a, b)
    out, base, exponent = np.ones_like(a), a.copy(), np.where(b < 0, b.dtype.type(0), b)
    while np.any(exponent > 0):
        out = np.where(exponent & 1, out * base, out)
        base, exponent = base * base, exponent >> 1
    if a.dtype.kind == "u":
        return out
    # A negative power is 1 / a**|b| towards zero.
    odd = np.where(b & 1, a, a.dtype.type(1))
    negative = np.where(a == 1, a, np.where(a == -1, odd, a.dtype.type(0)))
    return np.where(b < 0, negative, out)


_NUMBER: dict[type[Op], Callable[[Array, Array], Any]] = {
    binary.Add: np.add,
    binary.Sub: np.subtract,
    binary.Mul: np.multiply,
    binary.Div: _div,
    binary.Pow: _pow,
    binary.Mod: _mod,
    binary.Fmod: _fmod,
    binary.Min: np.minimum,
    binary.Max: np.maximum,
}


@reference(*_NUMBER)
def _number(op: Any, at: Context, a: Array, b: Array) -> Array:
    dtype, function = op.a.dtype, _NUMBER[type(op)]
    if dtype.is_float:
        compute = at.compute(dtype)
        return at.rounded(function(a.astype(compute), b.astype(compute)), dtype)
    return wrapped(function(int_view(a, dtype), int_view(b, dtype)), dtype)


def _shift(a: Array, b: Array, dtype: DType, left: bool) -> Array:
    out_of_range = (b < 0) | (b >= dtype.bits)
    amount = np.where(out_of_range, b.dtype.type(0), b)
    shifted = a << amount if left else a >> amount
    beyond = np.where((a < 0) & (not left), a.dtype.type(0) - a.dtype.type(1), a.dtype.type(0))
    return np.where(out_of_range, beyond, shifted)


_INTEGER: dict[type[Op], Callable[[Array, Array, DType], Any]] = {
    binary.BitAnd: lambda a, b, d: a & b,
    binary.BitOr: lambda a, b, d: a | b,
    binary.BitXor: lambda a, b, d: a ^ b,
    binary.ShiftLeft: lambda a, b, d: _shift(a, b, d, True),
    binary.ShiftRight: lambda a, b, d: _shift(a, b, d, False),
}


@reference(*_INTEGER)
def _integer(op: Any, at: Context, a: Array, b: Array) -> Array:
    dtype = op.a.dtype
    return wrapped(_INTEGER[type(op)](int_view(a, dtype), int_view(b, dtype), dtype), dtype)


_LOGICAL: dict[type[Op], Callable[[Array, Array], Any]] = {
    binary.And: np.logical_and,
    binary.Or: np.logical_or,
    binary.Xor: np.logical_xor,
    binary.Eq: np.equal,
    binary.Lt: np.less,
    binary.Le: np.less_equal,
    binary.Gt: np.greater,
    binary.Ge: np.greater_equal,
}


@reference(*_LOGICAL)
def _logical(op: Any, at: Context, a: Array, b: Array) -> Array:
    dtype = op.a.dtype
    if dtype.is_float:
        a, b = a.astype(at.compute(dtype)), b.astype(at.compute(dtype))
    elif dtype.is_int:
        a, b = int_view(a, dtype), int_view(b, dtype)
    return np.asarray(_LOGICAL[type(op)](a, b))


@reference(binary.Where)
def _where(op: binary.Where, at: Context, condition: Array, a: Array, b: Array) -> Array:
    return np.where(condition, a, b)

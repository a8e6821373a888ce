"""`Arith` that computes at once with numpy: every step rounds as the emitted code does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tilewright.backends.llvm.emit.arith import Value

_FLOAT_OF = {"int16": np.float16, "int32": np.float32, "int64": np.float64}
_NAMES = {"float16": "f16", "float32": "f32", "float64": "f64", "bool": "i1"} | {
    f"int{n}": f"i{n}" for n in (8, 16, 32, 64)
}
_DTYPES = {short: np.dtype(name) for name, short in _NAMES.items()}


def _unsigned(x: Any) -> Any:
    return x.view(np.dtype(f"uint{8 * x.dtype.itemsize}"))


class NumpyArith:
    """Values are numpy arrays (the lanes); integers are kept signed.

    `fma` of f32 is exact (through f64 and rounding to odd); of f64 it uses 80-bit long doubles,
    whose 11 extra bits leave a double rounding in about one case of 2000.
    """

    def __init__(self, fused: bool = True) -> None:
        self.fused = fused

    def dtype(self, x: Value) -> str:
        return _NAMES[x.dtype.name]

    def lanes(self, x: Value) -> int:
        return int(x.size) if x.ndim else 0

    def const(self, dtype: str, value: float | int, lanes: int = 0) -> Value:
        if dtype in ("i8", "i16", "i32", "i64"):
            bits = int(dtype[1:])
            value = (int(value) + (1 << (bits - 1))) % (1 << bits) - (1 << (bits - 1))
        scalar = np.asarray(value, _DTYPES[dtype])
        return np.full(lanes, scalar) if lanes else scalar

    def add(self, x: Value, y: Value) -> Value:
        return x + y

    def sub(self, x: Value, y: Value) -> Value:
        return x - y

    def mul(self, x: Value, y: Value) -> Value:
        return x * y

    def div(self, x: Value, y: Value) -> Value:
        return x / y

    def fma(self, x: Value, y: Value, z: Value) -> Value:
        if not self.fused:
            return x * y + z
        if x.dtype == np.float64:
            wide = np.longdouble
            return (x.astype(wide) * y.astype(wide) + z.astype(wide)).astype(np.float64)
        p, c = x.astype(np.float64) * y.astype(np.float64), z.astype(np.float64)
        s = p + c
        t = s - p
        lost = (p - (s - t)) + (c - t)
        # Round to odd in f64, so that the second rounding to f32 is the only one that counts.
        even = (s.view(np.int64) & 1) == 0
        away = np.where((lost > 0) == (s > 0), 1, -1)
        fix = np.isfinite(s) & (lost != 0) & even & (s != 0)
        return (s.view(np.int64) + np.where(fix, away, 0)).view(np.float64).astype(np.float32)

    def neg(self, x: Value) -> Value:
        return -x

    def abs(self, x: Value) -> Value:
        return np.abs(x)

    def sqrt(self, x: Value) -> Value:
        return np.sqrt(x)

    def floor(self, x: Value) -> Value:
        return np.floor(x)

    def ceil(self, x: Value) -> Value:
        return np.ceil(x)

    def trunc(self, x: Value) -> Value:
        return np.trunc(x)

    def rint(self, x: Value) -> Value:
        return np.rint(x)

    def fcmp(self, op: str, x: Value, y: Value) -> Value:
        return _COMPARE[op](x, y)

    def select(self, mask: Value, x: Value, y: Value) -> Value:
        return np.where(mask, x, y)

    def iadd(self, x: Value, y: Value) -> Value:
        return x + y

    def isub(self, x: Value, y: Value) -> Value:
        return x - y

    def imul(self, x: Value, y: Value) -> Value:
        return x * y

    def and_(self, x: Value, y: Value) -> Value:
        return x & y

    def or_(self, x: Value, y: Value) -> Value:
        return x | y

    def xor(self, x: Value, y: Value) -> Value:
        return x ^ y

    def shl(self, x: Value, y: Value) -> Value:
        return x << y

    def lshr(self, x: Value, y: Value) -> Value:
        return (_unsigned(x) >> _unsigned(np.asarray(y))).view(x.dtype)

    def ashr(self, x: Value, y: Value) -> Value:
        return x >> y

    def icmp(self, op: str, x: Value, y: Value, signed: bool = True) -> Value:
        if not signed:
            x, y = _unsigned(x), _unsigned(y)
        return _COMPARE[op](x, y)

    def bits(self, x: Value) -> Value:
        return x.view(np.dtype(f"int{8 * x.dtype.itemsize}"))

    def from_bits(self, x: Value) -> Value:
        return x.view(_FLOAT_OF[x.dtype.name])

    def fpcast(self, x: Value, dtype: str) -> Value:
        return x.astype(_DTYPES[dtype])

    def sext(self, x: Value, dtype: str) -> Value:
        return x.astype(_DTYPES[dtype])

    def zext(self, x: Value, dtype: str) -> Value:
        source = x if x.dtype == bool else _unsigned(x)
        return source.astype(_DTYPES[dtype])

    def itrunc(self, x: Value, dtype: str) -> Value:
        return x.astype(_DTYPES[dtype])

    def itof(self, x: Value, dtype: str, signed: bool = True) -> Value:
        return (x if signed else _unsigned(x)).astype(_DTYPES[dtype])

    def ftoi(self, x: Value, dtype: str, signed: bool = True) -> Value:
        return x.astype(_DTYPES[dtype])

    def if_any(self, mask: Value, then: Callable[[], Value], other: Value) -> Value:
        return then() if np.any(mask) else other


_COMPARE: dict[str, Any] = {
    "<": np.less,
    "<=": np.less_equal,
    ">": np.greater,
    ">=": np.greater_equal,
    "==": np.equal,
    "!=": np.not_equal,
}

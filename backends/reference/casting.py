"""Conversions between element types, with ONNX's rules for the 8-bit and 4-bit floats."""

import numpy as np

from tilewright.backends.reference.interpreter import Array
from tilewright.compiler.ir.types import DType

LARGEST = {
    DType.F8E4M3FN: 448.0,
    DType.F8E4M3FNUZ: 240.0,
    DType.F8E5M2: 57344.0,
    DType.F8E5M2FNUZ: 57344.0,
    DType.F8E8M0: 2.0**127,
    DType.F4E2M1: 6.0,
}
"""The largest finite value of the narrow floats."""


def int_view(x: Array, dtype: DType) -> Array:
    """Integers (or bool) in a numpy integer type; 4, 2 and 1 bit integers widen to 8 bits."""
    if dtype.bits < 8:
        return x.astype(np.uint8 if dtype.kind == "uint" else np.int8)
    return x


def wrapped(x: Array, dtype: DType) -> Array:
    """Integers reduced modulo 2**bits into the range of `dtype`, in its own numpy type."""
    if dtype.bits >= 8:
        return np.asarray(x).astype(dtype.numpy, copy=False)
    mask = (1 << dtype.bits) - 1
    low = np.asarray(x).astype(np.int64) & mask
    if dtype.kind == "int":
        low = np.where(low > mask >> 1, low - mask - 1, low)
    return low.astype(np.uint8 if dtype.kind == "uint" else np.int8).astype(dtype.numpy)


def truncating_divide(a: Array, b: Array) -> Array:
    """Integer a / b towards zero; 0 where b is 0; the least integer / -1 wraps."""
    if a.dtype.kind == "u":
        return np.where(b == 0, a.dtype.type(0), a // np.where(b == 0, b.dtype.type(1), b))
    special_case = (b == 0) | (b == -1)
    safe = np.where(special_case, b.dtype.type(1), b)
    quotient = a // safe
    quotient = quotient + ((a % safe != 0) & ((a < 0) != (safe < 0))).astype(a.dtype)
    return np.where(b == 0, a.dtype.type(0), np.where(b == -1, -a, quotient))


def cast(x: Array, source: DType, target: DType, saturate: bool) -> Array:
    """`x` of element type `source` as `target`, see the operation `cast`.

    Floats out of an integer's range become its nearest value and NaN becomes 0.
    """
    if target == source:
        return x
    if target == DType.BOOL:
        wide = x.astype(np.float64) if source.is_float else int_view(x, source)
        return np.asarray(wide != 0)
    if target.is_float:
        return _to_float(x, target, saturate)
    if source.is_float:
        return _float_to_int(x.astype(np.float64), target)
    return wrapped(int_view(x, source), target)


def _float_to_int(x: Array, target: DType) -> Array:
    low = -(2 ** (target.bits - 1)) if target.kind == "int" else 0
    high = 2 ** (target.bits - (target.kind == "int")) - 1
    whole = np.trunc(np.where(np.isnan(x), 0.0, x))
    inside = (whole >= low) & (whole < float(high + 1))
    safe = np.where(inside, whole, 0.0)
    kind = np.int64 if target.kind == "int" else np.uint64
    clipped = np.where(inside, safe.astype(kind), np.where(whole < low, kind(low), kind(high)))
    return wrapped(clipped, target)


def odd_f32(x: Array) -> Array:
    """float64 as float32, rounded to odd: a second rounding to a narrow type is then the only one.

    S. Boldo, G. Melquiond, "When double rounding is odd", IMACS 2005.
    """
    near = x.astype(np.float32)
    bits = near.view(np.int32)
    inexact = (near != x) & np.isfinite(near) & (bits & 1 == 0)
    overflow = np.isinf(near) & np.isfinite(x)
    outward = np.abs(near.astype(np.float64)) < np.abs(x)
    stepped = np.where(inexact, bits + np.where(outward, 1, -1), bits - overflow)
    # The neighbour of 0 is the least subnormal with the sign of x.
    tiny = np.where(np.signbit(x), np.int32(-(2**31) + 1), np.int32(1))
    fixed = np.where(inexact & (near == 0), tiny, stepped)
    return np.asarray(fixed, np.int32).view(np.float32)


def _to_float(x: Array, target: DType, saturate: bool) -> Array:
    if target not in LARGEST:
        if target in (DType.BF16, DType.F16) and x.dtype not in (np.float32, np.float16):
            x = odd_f32(x.astype(np.float64))
        return x.astype(target.numpy)
    wide = x.astype(np.float64)
    if target == DType.F8E8M0:
        return _to_power(wide, saturate)
    largest = LARGEST[target]
    if saturate or target == DType.F4E2M1:
        wide = np.where(np.isnan(wide), wide, np.clip(wide, -largest, largest))
    return odd_f32(wide).astype(target.numpy)


def _to_power(x: Array, saturate: bool) -> Array:
    """float8_e8m0: the nearest power of two, the larger of two equally near; NaN for x <= 0."""
    finite = np.where((x > 0) & np.isfinite(x), x, 1.0)
    fraction, exponent = np.frexp(finite)
    code = np.maximum(exponent - 1 + 127 + (fraction >= 0.75), 0)
    code = np.where(np.isposinf(x), 255, code)
    code = np.where(code > 254, 254 if saturate else 255, code)
    code = np.where(x > 0, code, 255)
    return code.astype(np.uint8).view(DType.F8E8M0.numpy)

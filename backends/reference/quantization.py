"""Quantization with scales that are computed: f32 arithmetic, step by step as kernels do it."""

import numpy as np

from tilewright.backends.reference.interpreter import Array, Context, reference
from tilewright.compiler.ir.ops.quantization import QuantizationRange, Quantize
from tilewright.compiler.ir.types import DType


@reference(QuantizationRange)
def _range(_op: QuantizationRange, at: Context, x: Array) -> tuple[Array, Array]:
    wide = x.astype(np.float64)
    low = np.minimum(np.min(wide, initial=0.0), 0.0)
    high = np.maximum(np.max(wide, initial=0.0), 0.0)
    with np.errstate(all="ignore"):
        # Quotients of f32 that are rounded from f64 are rounded correctly.
        span = at.rounded(np.asarray(high - low), DType.F32).astype(np.float64)
        scale = at.rounded(span / 255.0, DType.F32)
        zero = np.rint(at.rounded(-low / scale.astype(np.float64), DType.F32))
        zero = np.where(zero > 0, np.minimum(zero, 255.0), 0.0)
    return scale, zero.astype(np.uint8)


@reference(Quantize)
def _quantize(_op: Quantize, at: Context, x: Array, scale: Array, zero: Array) -> Array:
    with np.errstate(all="ignore"):
        quotient = at.rounded(x.astype(np.float64) / scale.astype(np.float64), DType.F32)
        value = np.rint(quotient) + zero.astype(np.float32)
        return np.where(value > 0, np.minimum(value, 255.0), 0.0).astype(np.uint8)

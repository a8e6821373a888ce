"""Meaning of the 8-bit matmul with scales, in numpy over the packed bytes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tilewright.backends.kernels.int8_scaled_matmul.packing import unpack
from tilewright.backends.kernels.int8_scaled_matmul.spec import ScaledMatmulSpec
from tilewright.backends.llvm import formats, normalization
from tilewright.backends.llvm.epilogue import evaluate, view_extras


def run(
    spec: ScaledMatmulSpec, args: Sequence[np.ndarray], dims: tuple[int, ...]
) -> tuple[np.ndarray, ...]:
    """C[M, N] in float64: A as the format reads it, exact sums."""
    m, lda = dims[0], dims[1]
    size = formats.BYTES[spec.a]
    a = np.lib.stride_tricks.as_strided(args[0], (m, spec.k), (size * lda, size))
    extras = 2 + len(spec.epilogue.extras)
    if spec.norm is not None:
        with np.errstate(all="ignore"):
            a = normalization.evaluate(spec.norm, a, args[extras:]).astype(np.float32)
    encoded = unpack(args[1], spec)
    product = spec.format.multiply(finite(a), encoded)
    quantized = np.ones(spec.k, bool)
    if spec.outliers:  # their products are f32, and meet infinities as those do
        quantized[encoded["channels"]] = False
    product[~np.isfinite(a[:, quantized].astype(np.float32)).all(axis=1)] = np.nan
    views = view_extras(spec.epilogue, args[2:extras], dims[3:], m, spec.n)
    with np.errstate(all="ignore"):
        return (evaluate(spec.epilogue, product, views),)


def finite(a: np.ndarray) -> np.ndarray:
    """f32, zeros in place of what is not finite."""
    wide = a.astype(np.float32)
    return np.where(np.isfinite(wide), wide, np.float32(0))

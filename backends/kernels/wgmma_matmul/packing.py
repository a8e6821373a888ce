"""Packed B: the columns of B one after the other, filled up to 16 bytes, in each plane."""

from __future__ import annotations

import ml_dtypes
import numpy as np

from tilewright.backends.kernels.wgmma_matmul.spec import WgmmaMatmulSpec

TYPES = {
    "f32": np.dtype(np.float32),
    "bf16": np.dtype(ml_dtypes.bfloat16),
    "f16": np.dtype(np.float16),
}
"""Formats as numpy types."""


def pack(weights: np.ndarray, spec: WgmmaMatmulSpec) -> np.ndarray:
    """[K, N] f32 -> u16 bits [planes, N, K filled up with zeros to whole 8]."""
    packed = np.zeros((spec.planes, spec.n, spec.row), np.uint16)
    packed[:, :, : spec.k] = split(np.ascontiguousarray(weights.T), spec)
    return packed


def unpack(packed: np.ndarray, spec: WgmmaMatmulSpec) -> np.ndarray:
    """The [K, N] matrix that ``packed`` stands for, in float64: the sum of its planes."""
    planes = widen(packed.reshape(spec.planes, spec.n, spec.row), spec)
    with np.errstate(invalid="ignore"):
        return np.ascontiguousarray(planes.sum(0)[:, : spec.k].T)


def split(values: np.ndarray, spec: WgmmaMatmulSpec) -> np.ndarray:
    """f32 as the sum of ``planes`` numbers (u16 bits, stacked in front), each rounded to nearest
    even; what has no rest (infinity, NaN) goes to the last plane."""
    kind = TYPES[spec.element]
    parts, rest = [], values.astype(np.float32)
    with np.errstate(invalid="ignore", over="ignore"):
        for _ in range(spec.planes):
            part = rest.astype(kind)
            parts.append(part.view(np.uint16))
            rest = rest - part.astype(np.float32)
    if spec.planes > 1:
        special = (parts[0] & 0x7F80) == 0x7F80
        first = parts[0].copy()
        for part in parts:
            part[special] = 0
        parts[-1][special] = first[special]
    return np.stack(parts)


def widen(bits: np.ndarray, spec: WgmmaMatmulSpec) -> np.ndarray:
    """Bits of the elements as float64."""
    with np.errstate(invalid="ignore"):
        return np.asarray(bits.view(TYPES[spec.element]).astype(np.float64))


def suits(weights: np.ndarray) -> bool:
    """Whether weights are finite, also as f16: parts of an infinity would meet zeros."""
    return bool((np.abs(weights) <= np.finfo(np.float16).max).all())

"""Packed B: the columns of B one after the other, filled up to 16 bytes."""

from __future__ import annotations

import numpy as np

from tilewright.backends.kernels.int8_matmul.packing import TYPES
from tilewright.backends.kernels.wgmma_int8_matmul.spec import WgmmaInt8MatmulSpec


def pack(weights: np.ndarray, spec: WgmmaInt8MatmulSpec) -> np.ndarray:
    """[K, N] of ``spec.b`` -> the same type [N, K filled up with zeros to whole 16]."""
    packed = np.zeros((spec.n, spec.row), TYPES[spec.b])
    packed[:, : spec.k] = weights.T
    return packed


def unpack(packed: np.ndarray, spec: WgmmaInt8MatmulSpec) -> np.ndarray:
    """The [K, N] matrix that was packed."""
    return np.ascontiguousarray(packed.reshape(spec.n, spec.row)[:, : spec.k].T)

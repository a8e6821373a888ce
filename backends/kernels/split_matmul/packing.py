"""Packed B is f32_matmul's, byte for byte; the parts are made at run time."""

from __future__ import annotations

import numpy as np

from tilewright.backends.kernels.f32_matmul import packing
from tilewright.backends.kernels.f32_matmul.spec import MatmulSpec
from tilewright.backends.kernels.split_matmul.spec import SplitMatmulSpec


def pack(weights: np.ndarray, spec: SplitMatmulSpec) -> np.ndarray:
    """[K, N] f32 -> [ceil(N/32), K, 32] f32, contiguous; pass a transposed source as ``.T``."""
    return packing.pack(weights, MatmulSpec(spec.k, spec.n))


def unpack(packed: np.ndarray, spec: SplitMatmulSpec) -> np.ndarray:
    """[ceil(N/32), K, 32] -> [K, N], the exact inverse of ``pack``."""
    return packing.unpack(packed, MatmulSpec(spec.k, spec.n))

"""Packed B is the product's."""

from __future__ import annotations

import numpy as np

from tilewright.backends.kernels.wgmma_matmul import packing
from tilewright.backends.kernels.wgmma_turned_matmul.spec import WgmmaTurnedMatmulSpec


def pack(weights: np.ndarray, spec: WgmmaTurnedMatmulSpec) -> np.ndarray:
    """[K, N] f32 -> u16 bits, as `wgmma_matmul`."""
    return packing.pack(weights, spec.product)


def unpack(packed: np.ndarray, spec: WgmmaTurnedMatmulSpec) -> np.ndarray:
    """The [K, N] matrix that ``packed`` stands for, in float64."""
    return packing.unpack(packed, spec.product)

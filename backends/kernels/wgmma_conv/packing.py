"""Packed filters: those of a matrix with the taps and then the channels of a filter as a column."""

from __future__ import annotations

import numpy as np

from tilewright.backends.kernels.wgmma_conv.spec import WgmmaConvSpec
from tilewright.backends.kernels.wgmma_matmul import packing


def pack(weights: np.ndarray, spec: WgmmaConvSpec) -> np.ndarray:
    """ONNX [OC, C, kernel..] f32 -> u16 bits [planes, OC, k filled up to whole 8]."""
    return packing.pack(np.moveaxis(weights, 1, -1).reshape(spec.out_channels, -1).T, spec.product)


def unpack(packed: np.ndarray, spec: WgmmaConvSpec) -> np.ndarray:
    """[OC, C, kernel..] in float64: the sum of the planes."""
    matrix = packing.unpack(packed, spec.product).T
    shape = (spec.out_channels, *spec.kernel, spec.channels)
    return np.ascontiguousarray(np.moveaxis(matrix.reshape(shape), -1, 1))

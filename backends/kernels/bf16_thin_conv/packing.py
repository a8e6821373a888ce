"""Packed filters: bf16_matmul's panels of filter rows filled up to steps of 32."""

from __future__ import annotations

import numpy as np

from tilewright.backends.kernels.bf16_matmul import packing
from tilewright.backends.kernels.bf16_thin_conv.spec import Bf16ThinConvSpec


def pack(weights: np.ndarray, spec: Bf16ThinConvSpec) -> np.ndarray:
    """ONNX [OC, C, kernel..] f32 -> u16 [panels, steps, planes, 16, 32, 2]."""
    rows = np.moveaxis(weights, 1, -1).reshape(spec.out_channels, -1, spec.run)
    depth = spec.matrix.k // rows.shape[1]
    filled = np.zeros((*rows.shape[:2], depth), np.float32)
    filled[:, :, : spec.run] = rows
    return packing.pack(filled.reshape(spec.out_channels, spec.matrix.k).T, spec.matrix)


def unpack(packed: np.ndarray, spec: Bf16ThinConvSpec) -> np.ndarray:
    """The weights that ``packed`` stands for, in float64."""
    filled = packing.unpack(packed, spec.matrix).T
    rows = spec.taps // spec.kernel[-1]
    runs = filled.reshape(spec.out_channels, rows, -1)[:, :, : spec.run]
    shape = (spec.out_channels, *spec.kernel, spec.channels)
    return np.ascontiguousarray(np.moveaxis(runs.reshape(shape), -1, 1))

"""Packed convolution filters: f16_matmul's panels, a group after the other."""

from __future__ import annotations

import numpy as np

from tilewright.backends.kernels.f16_conv.spec import F16ConvSpec
from tilewright.backends.kernels.f16_matmul import packing


def pack(weights: np.ndarray, spec: F16ConvSpec) -> np.ndarray:
    """ONNX [OC, C/groups, kernel..] f32 of f16 numbers -> f16 [groups, panels, K, 32]."""
    last = np.moveaxis(weights, 1, -1)
    groups = last.reshape(spec.groups, spec.group_outputs, spec.k)
    return np.stack([packing.pack(group.T, spec.matrix) for group in groups])


def unpack(packed: np.ndarray, spec: F16ConvSpec) -> np.ndarray:
    """The filters that were packed."""
    parts = packed.reshape(spec.groups, -1)
    matrix = np.stack([packing.unpack(part, spec.matrix).T for part in parts])
    shape = (spec.out_channels, *spec.kernel, spec.group_channels)
    return np.ascontiguousarray(np.moveaxis(matrix.reshape(shape), -1, 1))

"""Packed convolution weights: bf16_matmul's panels, a group after the other."""

from __future__ import annotations

import numpy as np

from tilewright.backends.kernels.bf16_conv.spec import Bf16ConvSpec
from tilewright.backends.kernels.bf16_matmul import packing


def pack(weights: np.ndarray, spec: Bf16ConvSpec) -> np.ndarray:
    """ONNX [OC, C/groups, kernel..] f32 -> u16 [groups, panels, steps, planes, 16, 32, 2]."""
    last = np.moveaxis(weights, 1, -1)
    groups = last.reshape(spec.groups, spec.group_outputs, spec.k)
    return np.stack([packing.pack(group.T, spec.matrix) for group in groups])


def unpack(packed: np.ndarray, spec: Bf16ConvSpec) -> np.ndarray:
    """The weights that ``packed`` stands for, in float64."""
    parts = packed.reshape(spec.groups, -1)
    matrix = np.stack([packing.unpack(part, spec.matrix).T for part in parts])
    shape = (spec.out_channels, *spec.kernel, spec.group_channels)
    return np.ascontiguousarray(np.moveaxis(matrix.reshape(shape), -1, 1))

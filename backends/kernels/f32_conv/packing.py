"""Packed convolution weights; the picture is in the package docstring."""

from __future__ import annotations

import numpy as np

from tilewright.backends.kernels.f32_conv.spec import ConvSpec
from tilewright.backends.llvm.microkernel import PANEL


def pack(weights: np.ndarray, spec: ConvSpec) -> np.ndarray:
    """ONNX [OC, C/groups, kernel..] f32 -> [groups, panels, K, 32] f32, K = taps x C/groups;
    depthwise: [ceil(C/32), taps, 32]. Zeros in columns beyond the group's outputs."""
    last = np.moveaxis(weights, 1, -1)
    if spec.depthwise:
        matrix = last.reshape(spec.channels, spec.taps).T[None]
    else:
        matrix = last.reshape(spec.groups, spec.group_outputs, spec.k).transpose(0, 2, 1)
    groups, k, n = matrix.shape
    panels = -(-n // PANEL)
    packed = np.zeros((groups, k, panels * PANEL), np.float32)
    packed[:, :, :n] = matrix
    packed = packed.reshape(groups, k, panels, PANEL).transpose(0, 2, 1, 3)
    return np.ascontiguousarray(packed[0] if spec.depthwise else packed)


def unpack(packed: np.ndarray, spec: ConvSpec) -> np.ndarray:
    """The exact inverse of ``pack``."""
    if spec.depthwise:
        packed = packed[None]
    groups, panels, k, width = packed.shape
    columns = spec.channels if spec.depthwise else spec.group_outputs
    matrix = packed.transpose(0, 1, 3, 2).reshape(groups, panels * width, k)[:, :columns]
    shape = (spec.out_channels, *spec.kernel, spec.group_channels)
    return np.ascontiguousarray(np.moveaxis(matrix.reshape(shape), -1, 1))

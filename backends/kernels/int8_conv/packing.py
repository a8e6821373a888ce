"""Packed convolution filters: int8_matmul's panels, a group after the other."""

from __future__ import annotations

import numpy as np

from tilewright.backends.kernels.int8_conv.spec import Int8ConvSpec
from tilewright.backends.kernels.int8_matmul import packing


def pack(weights: np.ndarray, spec: Int8ConvSpec) -> np.ndarray:
    """ONNX [OC, C/groups, kernel..] of ``spec.b`` -> s8 [groups, panels, bytes of a panel]."""
    last = np.moveaxis(weights, 1, -1)
    if spec.merged > 1:
        own = _own(spec)
        filled = np.zeros((*last.shape[:-1], spec.group_channels), last.dtype)
        for output, first in enumerate(own):
            filled[output, ..., first : first + last.shape[-1]] = last[output]
        last = filled
    groups = last.reshape(spec.groups, spec.group_outputs, spec.k)
    return np.stack([packing.pack(group.T, spec.matrix) for group in groups])


def unpack(packed: np.ndarray, spec: Int8ConvSpec) -> np.ndarray:
    """The filters that were packed."""
    kind = packing.TYPES[spec.b]
    parts = [packing.unpack(part, spec.matrix)[: spec.k] for part in packed]
    matrix = np.stack([part.T for part in parts]).astype(kind)
    shape = (spec.out_channels, *spec.kernel, spec.group_channels)
    filters = matrix.reshape(shape)
    if spec.merged > 1:
        width = spec.group_channels // spec.merged
        filters = np.stack(
            [f[..., first : first + width] for f, first in zip(filters, _own(spec), strict=True)]
        )
    return np.ascontiguousarray(np.moveaxis(filters, -1, 1))


def _own(spec: Int8ConvSpec) -> list[int]:
    """The first channel, within its merged group, that each output sees."""
    outputs = spec.group_outputs // spec.merged
    width = spec.group_channels // spec.merged
    return [o // outputs % spec.merged * width for o in range(spec.out_channels)]

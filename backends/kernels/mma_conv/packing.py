"""Packed weights: those of each group as mma_matmul packs B, one group after the other."""

from __future__ import annotations

import numpy as np

from tilewright.backends.kernels.mma_conv.spec import MmaConvSpec
from tilewright.backends.kernels.mma_matmul import packing
from tilewright.backends.kernels.mma_matmul.spec import MmaMatmulSpec


def pack(weights: np.ndarray, spec: MmaConvSpec) -> np.ndarray:
    """ONNX [OC, C/groups, kernel..] f32 -> uint8 [bytes], k = taps x C/groups."""
    last = np.moveaxis(weights, 1, -1)
    matrices = last.reshape(spec.groups, spec.group_outputs, spec.k).transpose(0, 2, 1)
    return np.concatenate([packing.pack(np.ascontiguousarray(m), _matrix(spec)) for m in matrices])


def unpack(packed: np.ndarray, spec: MmaConvSpec) -> np.ndarray:
    """[OC, C/groups, kernel..] f32, exact for weights of the type."""
    parts = packed.reshape(spec.groups, spec.weights.bytes)
    matrices = np.stack([packing.unpack(p, _matrix(spec)) for p in parts]).transpose(0, 2, 1)
    shape = (spec.out_channels, *spec.kernel, spec.group_channels)
    return np.ascontiguousarray(np.moveaxis(matrices.reshape(shape), -1, 1))


def _matrix(spec: MmaConvSpec) -> MmaMatmulSpec:
    """The product of one group."""
    return MmaMatmulSpec(spec.k, spec.group_outputs, spec.dtype)

"""Packed B: that of f32_matmul, or of f16_matmul."""

from __future__ import annotations

import numpy as np

from tilewright.backends.kernels.f16_matmul import packing as f16
from tilewright.backends.kernels.f16_matmul.spec import F16MatmulSpec
from tilewright.backends.kernels.f32_matmul import packing as f32
from tilewright.backends.kernels.simt_matmul.spec import SimtMatmulSpec
from tilewright.backends.llvm.microkernel import PANEL


def pack(weights: np.ndarray, spec: SimtMatmulSpec) -> np.ndarray:
    """[K, N] f32 -> f32 or f16 [ceil(N/32), K, 32]."""
    matrix = spec.matrix
    if isinstance(matrix, F16MatmulSpec):
        return f16.pack(weights, matrix)
    return f32.pack(weights, matrix)


def unpack(packed: np.ndarray, spec: SimtMatmulSpec) -> np.ndarray:
    """The exact inverse of ``pack``."""
    matrix = spec.matrix
    panels = packed.reshape(matrix.panels, spec.k, PANEL)
    if isinstance(matrix, F16MatmulSpec):
        return f16.unpack(panels, matrix)
    return f32.unpack(panels, matrix)

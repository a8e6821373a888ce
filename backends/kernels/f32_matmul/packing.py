"""Packed B: panels of 32 columns, [ceil(N/32)][K][32], zeros beyond N."""

from __future__ import annotations

import numpy as np

from tilewright.backends.kernels.f32_matmul.spec import MatmulSpec
from tilewright.backends.llvm.microkernel import PANEL


def pack(weights: np.ndarray, spec: MatmulSpec) -> np.ndarray:
    """[K, N] f32 -> [ceil(N/32), K, 32] f32, contiguous; pass a transposed source as ``.T``."""
    k, panels = spec.k, spec.panels
    packed = np.zeros((panels, k, PANEL), np.float32)
    for p in range(panels):
        part = weights[:, p * PANEL : (p + 1) * PANEL]
        packed[p, :, : part.shape[1]] = part
    return packed


def unpack(packed: np.ndarray, spec: MatmulSpec) -> np.ndarray:
    """[ceil(N/32), K, 32] -> [K, N], the exact inverse of ``pack``."""
    return np.ascontiguousarray(
        packed.transpose(1, 0, 2).reshape(spec.k, spec.panels * PANEL)[:, : spec.n]
    )

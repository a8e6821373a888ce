"""Packed B; the picture is in the package docstring."""

from __future__ import annotations

import numpy as np

from tilewright.backends.kernels.f16_matmul.spec import F16MatmulSpec
from tilewright.backends.llvm.microkernel import PANEL


def pack(weights: np.ndarray, spec: F16MatmulSpec) -> np.ndarray:
    """[K, N] f32 of f16 numbers -> f16 [ceil(N/32), K, 32], contiguous; N filled with zeros."""
    filled = np.zeros((spec.k, spec.panels * PANEL), np.float16)
    filled[:, : spec.n] = weights
    return np.ascontiguousarray(filled.reshape(spec.k, spec.panels, PANEL).transpose(1, 0, 2))


def unpack(packed: np.ndarray, spec: F16MatmulSpec) -> np.ndarray:
    """The [K, N] matrix that was packed."""
    matrix = packed.reshape(spec.panels, spec.k, PANEL).transpose(1, 0, 2)
    full = matrix.reshape(spec.k, spec.panels * PANEL)[:, : spec.n]
    return np.ascontiguousarray(full, dtype=np.float32)

"""Packed Winograd filters; the picture is in the package docstring."""

from __future__ import annotations

import numpy as np

from tilewright.backends.kernels.f32_winograd.spec import POSITIONS, WinogradSpec
from tilewright.backends.llvm.microkernel import PANEL

G = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]])
"""Filter transform."""

# Its left inverse: 3x3 from 4x4.
_BACK = np.array([[1, 0, 0, 0], [0, 1, -1, 0], [0, 0, 0, 1]])


def pack(weights: np.ndarray, spec: WinogradSpec) -> np.ndarray:
    """ONNX [OC, C, 3, 3] f32 -> [panels, 16, C, 32] f32, zeros in columns beyond OC."""
    u = np.einsum("iy,ocyx,jx->ijco", G, weights.astype(np.float64), G)
    wide = np.zeros((POSITIONS, spec.channels, spec.panels * PANEL), np.float32)
    wide[:, :, : spec.out_channels] = u.reshape(POSITIONS, *u.shape[2:])
    packed = wide.reshape(POSITIONS, spec.channels, spec.panels, PANEL)
    return np.ascontiguousarray(packed.transpose(2, 0, 1, 3))


def suits(weights: np.ndarray) -> bool:
    """Whether U is finite for all of them: it is at most 9/4 of the largest."""
    return bool(np.abs(weights).max(initial=0.0) < 2.0**126)


def unpack(packed: np.ndarray, spec: WinogradSpec) -> np.ndarray:
    """The filters that ``packed`` stands for, f32: those packed, where U was exact."""
    whole = packed.reshape(spec.panels, 4, 4, spec.channels, PANEL)
    u = whole.transpose(1, 2, 3, 0, 4).reshape(4, 4, spec.channels, -1).astype(np.float64)
    u = u[..., : spec.out_channels]
    return np.ascontiguousarray(np.einsum("yi,ijco,xj->ocyx", _BACK, u, _BACK), np.float32)

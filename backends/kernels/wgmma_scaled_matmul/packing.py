"""Packed B: the columns of B one after the other, filled up to 16 bytes, then their scales."""

from __future__ import annotations

import numpy as np

from tilewright.backends.kernels.wgmma_scaled_matmul.spec import WgmmaScaledMatmulSpec
from tilewright.compiler.formats.format import Encoded

ZERO = 128
"""The code of no weight in integer formats."""


def pack(encoded: Encoded, spec: WgmmaScaledMatmulSpec) -> np.ndarray:
    """Codes u8 [K, N] and scales f32 [1, N] -> u8 [bytes]."""
    columns = np.zeros((spec.n, spec.row), np.uint8)
    # 128 less is the other sign in the upper bit.
    columns[:, : spec.k] = encoded["codes"].T ^ (ZERO if spec.element == "s8" else 0)
    scales = encoded["scales"].astype(np.float32).reshape(-1)
    return np.concatenate([columns.reshape(-1), scales.view(np.uint8)])


def unpack(packed: np.ndarray, spec: WgmmaScaledMatmulSpec) -> Encoded:
    """What was packed."""
    columns = packed[: spec.scales_at].reshape(spec.n, spec.row)[:, : spec.k]
    scales = np.ascontiguousarray(packed[spec.scales_at :]).view(np.float32)[None]
    codes = np.ascontiguousarray(columns.T) ^ np.uint8(ZERO if spec.element == "s8" else 0)
    arrays = {"codes": codes, "scales": scales}
    if spec.element == "s8":
        arrays["zeros"] = np.full((1, spec.n), ZERO, np.uint8)
    return Encoded((spec.k, spec.n), arrays)

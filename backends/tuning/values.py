"""Operands of kernels that are measured."""

from __future__ import annotations

import numpy as np


def moderate(size: int) -> np.ndarray:
    """`size` bytes that are moderate numbers read as f32 and as bf16, so that no kernel meets
    subnormals or NaN, which take other times; aligned to 64."""
    rng = np.random.default_rng(0)
    part = (rng.standard_normal(1 << 15).astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
    raw = aligned(size)
    pattern = part.view(np.uint8)
    whole = size // pattern.size * pattern.size
    raw[:whole].reshape(-1, pattern.size)[...] = pattern
    raw[whole:size] = pattern[: size - whole]
    return raw


def aligned(size: int) -> np.ndarray:
    """`size` zeros at a multiple of 64."""
    raw = np.zeros(size + 64, np.uint8)
    skip = -raw.ctypes.data % 64
    return raw[skip : skip + size]

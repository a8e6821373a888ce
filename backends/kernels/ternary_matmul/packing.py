"""Packed B: 2-bit codes of coded_matmul."""

from __future__ import annotations

import numpy as np

from tilewright.backends.kernels.coded_matmul import FAMILY as CODED
from tilewright.backends.kernels.ternary_matmul.spec import CODES, TernaryMatmulSpec
from tilewright.compiler.formats.format import Encoded
from tilewright.compiler.formats.ternary import is_ternary

_MIDDLE = 2


def suits(weights: np.ndarray) -> bool:
    """Whether every column has zeros and one magnitude."""
    return is_ternary(weights.reshape(-1, weights.shape[-1])) if weights.ndim > 1 else False


def pack(weights: np.ndarray, spec: TernaryMatmulSpec) -> np.ndarray:
    """Ternary f32 [K, N] -> codes, and the magnitude of its column as the scale of every group."""
    scales = np.abs(weights).max(axis=0, initial=0).astype(np.float32)
    groups = spec.coded.groups
    arrays = {
        "codes": (np.sign(weights).astype(np.int8) + _MIDDLE).astype(np.uint8),
        "scales": np.tile(scales, (groups, 1)),
        "zeros": np.full((groups, spec.n), _MIDDLE, np.float32),
    }
    assert CODED.pack is not None
    return CODED.pack(Encoded((spec.k, spec.n), arrays), spec.coded)


def unpack(packed: np.ndarray, spec: TernaryMatmulSpec) -> np.ndarray:
    """The weights that were packed, f32 [K, N]."""
    assert CODED.unpack is not None
    found = CODED.unpack(packed, spec.coded)
    assert isinstance(found, Encoded)
    return CODES.decode(found)

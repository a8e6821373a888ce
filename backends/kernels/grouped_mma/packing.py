"""Packed B: codes with their scales and zero points; the picture is in cuda/device/fewparts.cuh."""

from __future__ import annotations

import numpy as np

from tilewright.backends.cuda import operands
from tilewright.backends.kernels.grouped_mma.spec import GroupedMmaSpec
from tilewright.compiler.formats.format import Encoded


def pack(encoded: Encoded, spec: GroupedMmaSpec) -> np.ndarray:
    """Codes uint8 [K, N], scales f32 and zeros uint8 [G, N] -> uint8 [bytes]."""
    w = spec.weights
    scales = encoded["scales"].astype(np.float16 if w.scaled == 2 else np.float32)
    zeros = encoded["zeros"].astype(np.uint8) if w.zeros else None
    return operands.pack(w, encoded["codes"], scales, zeros)


def unpack(packed: np.ndarray, spec: GroupedMmaSpec) -> Encoded:
    """What was packed."""
    codes, scales, zeros = operands.unpack(spec.weights, packed)
    assert scales is not None
    if zeros is None:
        zeros = np.full(scales.shape, 2 ** (spec.weights.bits - 1), np.uint8)
    arrays = {"codes": codes, "scales": scales.astype(np.float32), "zeros": zeros}
    return Encoded((spec.k, spec.n), arrays)

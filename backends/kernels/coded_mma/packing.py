"""Packed B: codes with their scales and zero points; the picture is in cuda/device/fewparts.cuh."""

from __future__ import annotations

import numpy as np

from tilewright.backends.cuda import operands
from tilewright.backends.kernels.coded_mma.spec import CodedMmaSpec
from tilewright.compiler.formats.format import Encoded


def pack(encoded: Encoded | np.ndarray, spec: CodedMmaSpec) -> np.ndarray:
    """Codes uint8 [K, N], scales and zeros f32 [G, N] -> uint8 [bytes]; f32 [K, N] are encoded
    first."""
    if isinstance(encoded, np.ndarray):
        encoded = spec.format.encode(encoded)
    w = spec.weights
    scales = encoded["scales"].astype(np.float16 if w.scaled == 2 else np.float32)
    zeros = encoded["zeros"].astype(np.uint8) if w.zeros else None
    return operands.pack(w, encoded["codes"], scales, zeros)


def unpack(packed: np.ndarray, spec: CodedMmaSpec) -> Encoded:
    """What was packed."""
    codes, scales, zeros = operands.unpack(spec.weights, packed)
    assert scales is not None
    if zeros is None:
        zeros = np.full(scales.shape, 2 ** (spec.weights.bits - 1), np.uint8)
    arrays = {"codes": codes, "scales": scales.astype("f4"), "zeros": zeros.astype("f4")}
    return Encoded((spec.k, spec.n), arrays)

"""Packed B: codes, then scales, then zero points; the picture is in cuda/device/fewrows.cuh."""

from __future__ import annotations

import numpy as np

from tilewright.backends.cuda.fewrows import pack_codes, pack_sides, unpack_codes, unpack_sides
from tilewright.backends.kernels.grouped_mma.spec import GroupedMmaSpec
from tilewright.compiler.formats.format import Encoded


def pack(encoded: Encoded, spec: GroupedMmaSpec) -> np.ndarray:
    """Codes uint8 [K, N], scales f32 and zeros uint8 [G, N] -> uint8 [bytes]."""
    w = spec.weights
    scales = encoded["scales"].astype(np.float16 if w.scaled == 2 else np.float32)
    parts = [pack_codes(encoded["codes"], w), pack_sides(scales, w)]
    if w.zeros:
        parts.append(pack_sides(encoded["zeros"].astype(np.uint8), w))
    return np.concatenate(parts)


def unpack(packed: np.ndarray, spec: GroupedMmaSpec) -> Encoded:
    """What was packed."""
    w = spec.weights
    scales = unpack_sides(packed, w, np.float16 if w.scaled == 2 else np.float32)
    zeros = np.full(scales.shape, 2 ** (w.bits - 1), np.uint8)
    if w.zeros:
        zeros = unpack_sides(packed, w, np.uint8)
    codes = unpack_codes(packed, w)
    return Encoded(
        (spec.k, spec.n), {"codes": codes, "scales": scales.astype(np.float32), "zeros": zeros}
    )

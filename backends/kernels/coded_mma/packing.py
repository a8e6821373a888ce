"""Packed B: codes, then scales, then zero points; the picture is in cuda/device/fewrows.cuh."""

from __future__ import annotations

import numpy as np

from tilewright.backends.cuda.fewrows import pack_codes, pack_sides, unpack_codes, unpack_sides
from tilewright.backends.kernels.coded_mma.spec import CodedMmaSpec
from tilewright.compiler.formats.format import Encoded


def pack(encoded: Encoded | np.ndarray, spec: CodedMmaSpec) -> np.ndarray:
    """Codes uint8 [K, N], scales and zeros f32 [G, N] -> uint8 [bytes]; f32 [K, N] are encoded
    first."""
    if isinstance(encoded, np.ndarray):
        encoded = spec.format.encode(encoded)
    w = spec.weights
    scales = encoded["scales"].astype(np.float16 if w.scaled == 2 else np.float32)
    parts = [pack_codes(encoded["codes"], w), pack_sides(scales, w)]
    if w.zeros:
        parts.append(pack_sides(encoded["zeros"].astype(np.uint8), w))
    return np.concatenate(parts)


def unpack(packed: np.ndarray, spec: CodedMmaSpec) -> Encoded:
    """What was packed."""
    w = spec.weights
    scales = unpack_sides(packed, w, np.float16 if w.scaled == 2 else np.float32)
    zeros = np.full(scales.shape, 2 ** (w.bits - 1), np.float32)
    if w.zeros:
        zeros = unpack_sides(packed, w, np.uint8).astype(np.float32)
    codes = unpack_codes(packed, w)
    return Encoded(
        (spec.k, spec.n), {"codes": codes, "scales": scales.astype(np.float32), "zeros": zeros}
    )

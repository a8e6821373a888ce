"""Packed filters: the panels of int8_scaled_matmul, then how X is read."""

from __future__ import annotations

import numpy as np

from tilewright.backends.kernels.int8_scaled_conv.spec import LINE, Int8ScaledConvSpec
from tilewright.backends.kernels.int8_scaled_matmul import packing
from tilewright.compiler.formats.format import Encoded
from tilewright.compiler.formats.tensor import inverse


def pack(encoded: Encoded, spec: Int8ScaledConvSpec) -> np.ndarray:
    """Filters [taps.. C, O] in ``spec.format`` -> u8 [bytes]."""
    panels = packing.pack(encoded, spec.matrix)
    step, zero = np.float32(encoded["step"][0]), np.float32(encoded["zero"][0])
    line = np.zeros(LINE // 4, np.float32)
    line[:4] = inverse(step), zero, step, -zero * step
    return np.concatenate([panels, line.view(np.uint8)])


def unpack(packed: np.ndarray, spec: Int8ScaledConvSpec) -> Encoded:
    """The exact inverse."""
    flat = packed.reshape(-1).view(np.uint8)
    found = packing.unpack(flat[:-LINE], spec.matrix)
    line = np.ascontiguousarray(flat[-LINE:]).view(np.float32)
    arrays = {"step": line[2:3], "zero": line[1:2].astype(np.int32)}
    return Encoded(found.shape, {**found.arrays, **arrays})

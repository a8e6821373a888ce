"""Packed codes, then both packed factors."""

from __future__ import annotations

import numpy as np

from tilewright.backends.kernels.factored_matmul import packing as factors
from tilewright.backends.kernels.grouped_matmul import packing as grouped
from tilewright.backends.kernels.repaired_matmul.spec import RepairedMatmulSpec
from tilewright.compiler.formats.format import Encoded
from tilewright.compiler.formats.repaired import joined, parts


def pack(encoded: Encoded, spec: RepairedMatmulSpec) -> np.ndarray:
    """`Repaired` weights -> uint8 [bytes]."""
    codes, low = parts(encoded)
    packed = np.zeros(spec.base_bytes + spec.factors.bytes, np.uint8)
    made = grouped.pack(codes, spec.base).reshape(-1)
    packed[: made.size] = made
    packed[spec.base_bytes :] = factors.pack(low, spec.factors)
    return packed


def unpack(packed: np.ndarray, spec: RepairedMatmulSpec) -> Encoded:
    """What was packed."""
    codes, low = split(packed, spec)
    return joined(grouped.unpack(codes, spec.base), factors.unpack(low, spec.factors))


def split(packed: np.ndarray, spec: RepairedMatmulSpec) -> tuple[np.ndarray, np.ndarray]:
    """Packed codes and packed factors, uint8 [bytes] each."""
    flat = packed.reshape(-1).view(np.uint8)
    return flat[: spec.base.panel.matrix_bytes], flat[spec.base_bytes :]

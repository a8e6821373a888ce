"""Both packed factors, one after the other; each as the family packs it that multiplies with it."""

from __future__ import annotations

import numpy as np

from tilewright.backends.kernels.factored_matmul.pair import Pair
from tilewright.compiler.formats.factored import joined, parts
from tilewright.compiler.formats.format import Encoded


def pack(encoded: Encoded, spec: Pair) -> np.ndarray:
    """`Factored` weights -> uint8 [bytes]; zeros between the factors up to a multiple of 64."""
    packed = np.zeros(spec.bytes, np.uint8)
    sides = ((0, spec.left), (spec.left_bytes, spec.right))
    for part, (at, inner) in zip(parts(encoded), sides, strict=True):
        made = spec.inner.pack(part, inner).reshape(-1).view(np.uint8)
        packed[at : at + made.size] = made
    return packed


def unpack(packed: np.ndarray, spec: Pair) -> Encoded:
    """What was packed."""
    left, right = split(packed, spec)
    return joined(spec.inner.unpack(left, spec.left), spec.inner.unpack(right, spec.right))


def split(packed: np.ndarray, spec: Pair) -> tuple[np.ndarray, np.ndarray]:
    """The packed factors, uint8 [bytes] each."""
    flat = packed.reshape(-1).view(np.uint8)
    return flat[: spec.inner.layout(spec.left).bytes], flat[spec.left_bytes : spec.bytes]

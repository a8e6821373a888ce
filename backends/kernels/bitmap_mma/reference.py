"""Meaning of the product with bitmaps, in numpy over the packed bytes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tilewright.backends.kernels.bitmap_mma.packing import TYPES, unpack
from tilewright.backends.kernels.bitmap_mma.spec import BitmapMmaSpec
from tilewright.backends.llvm import formats as storage
from tilewright.backends.llvm.epilogue import evaluate, view_extras
from tilewright.compiler.formats.format import Encoded


def run(
    spec: BitmapMmaSpec, args: Sequence[np.ndarray], dims: tuple[int, ...]
) -> tuple[np.ndarray, ...]:
    """C[M, N] in float64: A rounded to elements, exact sums."""
    m, lda = dims[0], dims[1]
    size = storage.BYTES[spec.a]
    a = np.lib.stride_tricks.as_strided(args[0], (m, spec.k), (size * lda, size))
    with np.errstate(all="ignore"):
        product = multiply(spec, a, unpack(args[1], spec))
        extras = view_extras(spec.epilogue, args[2:], dims[3:], m, spec.n)
        return (evaluate(spec.epilogue, product, extras),)


def multiply(spec: BitmapMmaSpec, a: np.ndarray, weights: np.ndarray | Encoded) -> np.ndarray:
    """A [M, K] as it is read by all of B: what is not finite meets zeros too, and gives NaN."""
    if isinstance(weights, Encoded):
        assert spec.format is not None
        weights = spec.format.decode(weights)
    read = a.astype(np.float32).astype(TYPES[spec.element]).astype(np.float64)
    found: np.ndarray = read @ weights.astype(np.float64)
    return found

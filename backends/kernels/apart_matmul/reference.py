"""Meaning of the matmul with blocks of k apart, in numpy over the packed bytes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tilewright.backends.kernels.apart_matmul.packing import unpack
from tilewright.backends.kernels.apart_matmul.spec import FORMAT, ApartMatmulSpec
from tilewright.backends.llvm.epilogue import evaluate, view_extras
from tilewright.compiler.formats.format import Encoded


def run(
    spec: ApartMatmulSpec, args: Sequence[np.ndarray], dims: tuple[int, ...]
) -> tuple[np.ndarray, ...]:
    """C[M, N] in float64: A as the kernel reads it, exact sums."""
    m, lda = dims[0], dims[1]
    a = np.lib.stride_tricks.as_strided(args[0], (m, spec.k), (4 * lda, 4))
    with np.errstate(all="ignore"):
        extras = view_extras(spec.epilogue, args[2:], dims[3:], m, spec.n)
        return (evaluate(spec.epilogue, multiply(a, unpack(args[1], spec)), extras),)


def multiply(a: np.ndarray, weights: Encoded) -> np.ndarray:
    """A [M, K] in 8 bits by B; rows that are not finite become NaN."""
    odd = ~np.isfinite(a).all(axis=1)
    found = FORMAT.multiply(np.where(odd[:, None], np.float32(0), a), weights)
    found[odd] = np.nan
    return found

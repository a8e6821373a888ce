"""Meaning of the product, in numpy over the packed bytes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tilewright.backends.kernels.wgmma_matmul.packing import split, widen
from tilewright.backends.kernels.wgmma_matmul.spec import BYTES, WgmmaMatmulSpec
from tilewright.backends.llvm.epilogue import evaluate, view_extras

PAIRS = {
    1: ((0, 0),),
    3: ((1, 0), (0, 1), (0, 0)),
    6: ((1, 1), (2, 0), (0, 2), (1, 0), (0, 1), (0, 0)),
}
"""Number of products -> planes of A and B that are multiplied, the smallest products first."""


def run(
    spec: WgmmaMatmulSpec, args: Sequence[np.ndarray], dims: tuple[int, ...]
) -> tuple[np.ndarray, ...]:
    """C[M, N] in float64: A rounded or split as the kernel does it, exact sums."""
    m, lda = dims[0], dims[1]
    size = BYTES[spec.a]
    a = np.lib.stride_tricks.as_strided(args[0], (m, spec.k), (size * lda, size))
    lefts = widen(split(a.astype(np.float32), spec), spec)
    rights = widen(args[1].reshape(spec.planes, spec.n, spec.row), spec)[:, :, : spec.k]
    with np.errstate(all="ignore"):
        product = np.zeros((m, spec.n))
        for i, j in PAIRS[spec.products]:
            product += lefts[i] @ rights[j].T
        seen = view_extras(spec.epilogue, args[2:], dims[3:], m, spec.n)
        return (evaluate(spec.epilogue, product, seen),)

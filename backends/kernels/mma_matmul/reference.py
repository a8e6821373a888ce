"""Meaning of the matmul in f16 or bf16, in numpy over the packed bytes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tilewright.backends.kernels.mma_matmul.packing import TYPES, unpack
from tilewright.backends.kernels.mma_matmul.spec import MmaMatmulSpec
from tilewright.backends.llvm.epilogue import evaluate, view_extras


def run(
    spec: MmaMatmulSpec, args: Sequence[np.ndarray], dims: tuple[int, ...]
) -> tuple[np.ndarray, ...]:
    """C[M, N] in float64: A rounded, exact sums."""
    m, lda = dims[0], dims[1]
    a = np.lib.stride_tricks.as_strided(args[0], (m, spec.k), (4 * lda, 4))
    with np.errstate(all="ignore"):
        rounded = a.astype(TYPES[spec.dtype]).astype(np.float64)
        product = rounded @ unpack(args[1], spec).astype(np.float64)
        extras = view_extras(spec.epilogue, args[2:], dims[3:], m, spec.n)
        return (evaluate(spec.epilogue, product, extras),)

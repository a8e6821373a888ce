"""Meaning of the f16 matmul, in numpy over the packed bytes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tilewright.backends.kernels.f16_matmul.packing import unpack
from tilewright.backends.kernels.f16_matmul.spec import F16MatmulSpec
from tilewright.backends.llvm.epilogue import evaluate, view_extras


def run(
    spec: F16MatmulSpec, args: Sequence[np.ndarray], dims: tuple[int, ...]
) -> tuple[np.ndarray, ...]:
    """C[M, N] in float64, exact sums; with chains, of A rounded to f16."""
    m, lda = dims[0], dims[1]
    a = np.lib.stride_tricks.as_strided(args[0], (m, spec.k), (4 * lda, 4))
    with np.errstate(all="ignore"):
        a = a.astype(np.float16) if spec.chain else a
        product = a.astype(np.float64) @ unpack(args[1], spec).astype(np.float64)
        extras = view_extras(spec.epilogue, args[2:], dims[3:], m, spec.n)
        return (evaluate(spec.epilogue, product, extras),)

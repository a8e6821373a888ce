"""Meaning of the matmul with codes, in numpy over the packed bytes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tilewright.backends.kernels.coded_mma.packing import unpack
from tilewright.backends.kernels.coded_mma.spec import CodedMmaSpec
from tilewright.backends.llvm.epilogue import evaluate, view_extras


def run(
    spec: CodedMmaSpec, args: Sequence[np.ndarray], dims: tuple[int, ...]
) -> tuple[np.ndarray, ...]:
    """C[M, N] in float64, exact sums."""
    m, lda = dims[0], dims[1]
    a = np.lib.stride_tricks.as_strided(args[0], (m, spec.k), (4 * lda, 4))
    b = spec.format.decode(unpack(args[1], spec))
    with np.errstate(all="ignore"):
        product = a.astype(np.float64) @ b.astype(np.float64)
        extras = view_extras(spec.epilogue, args[2:], dims[3:], m, spec.n)
        return (evaluate(spec.epilogue, product, extras),)

"""Meaning of the matmul with weights of 8-bit floats, in numpy over the packed bytes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tilewright.backends.kernels.f8_matmul.packing import unpack
from tilewright.backends.kernels.f8_matmul.spec import F8MatmulSpec
from tilewright.backends.llvm.epilogue import evaluate, view_extras


def run(
    spec: F8MatmulSpec, args: Sequence[np.ndarray], dims: tuple[int, ...]
) -> tuple[np.ndarray, ...]:
    """C[M, N] in float64: A as the format reads it, exact sums."""
    m, lda = dims[0], dims[1]
    a = np.lib.stride_tricks.as_strided(args[0], (m, spec.k), (4 * lda, 4))
    with np.errstate(all="ignore"):
        decoded = spec.format.decode(unpack(args[1], spec)).astype(np.float64)
        product = spec.format.activation.read(a) @ decoded
        extras = view_extras(spec.epilogue, args[2:], dims[3:], m, spec.n)
        return (evaluate(spec.epilogue, product, extras),)

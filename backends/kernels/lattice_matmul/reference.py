"""Meaning of the matmul with weights on lattices, in numpy over the packed bytes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tilewright.backends.kernels.lattice_matmul.packing import unpack
from tilewright.backends.kernels.lattice_matmul.spec import LatticeMatmulSpec
from tilewright.backends.llvm.epilogue import evaluate, view_extras


def run(
    spec: LatticeMatmulSpec, args: Sequence[np.ndarray], dims: tuple[int, ...]
) -> tuple[np.ndarray, ...]:
    """C[M, N] in float64: A multiplied with the bases and rounded to bf16, exact sums."""
    m, lda = dims[0], dims[1]
    a = np.lib.stride_tricks.as_strided(args[0], (m, spec.k), (4 * lda, 4))
    with np.errstate(all="ignore"):
        product = spec.format.product(a, unpack(args[1], spec))
        extras = view_extras(spec.epilogue, args[2:], dims[3:], m, spec.n)
        return (evaluate(spec.epilogue, product, extras),)

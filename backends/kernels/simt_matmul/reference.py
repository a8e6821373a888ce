"""Meaning of the f32 matmul, in numpy over the packed bytes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tilewright.backends.kernels.simt_matmul.packing import unpack
from tilewright.backends.kernels.simt_matmul.spec import SimtMatmulSpec
from tilewright.backends.llvm.epilogue import evaluate, view_extras


def run(
    spec: SimtMatmulSpec, args: Sequence[np.ndarray], dims: tuple[int, ...]
) -> tuple[np.ndarray, ...]:
    """C[M, N] in float64 from the kernel's own operands."""
    m, lda = dims[0], dims[1]
    a = np.lib.stride_tricks.as_strided(args[0], (m, spec.k), (4 * lda, 4)).astype(np.float64)
    b = unpack(args[1], spec).astype(np.float64)
    with np.errstate(all="ignore"):
        extras = view_extras(spec.epilogue, args[2:], dims[3:], m, spec.n)
        return (evaluate(spec.epilogue, a @ b, extras),)

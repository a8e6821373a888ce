"""Meaning of the matmul with group-wise integer weights, in numpy over the packed bytes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tilewright.backends.kernels.grouped_mma.packing import unpack
from tilewright.backends.kernels.grouped_mma.spec import GroupedMmaSpec
from tilewright.backends.llvm import formats as storage
from tilewright.backends.llvm.epilogue import evaluate, view_extras
from tilewright.compiler.formats.activations import Rounded


def run(
    spec: GroupedMmaSpec, args: Sequence[np.ndarray], dims: tuple[int, ...]
) -> tuple[np.ndarray, ...]:
    """C[M, N] in float64: A as bf16, exact sums."""
    m, lda = dims[0], dims[1]
    size = storage.BYTES[spec.a]
    a = np.lib.stride_tricks.as_strided(args[0], (m, spec.k), (size * lda, size))
    b = spec.format.decode(unpack(args[1], spec))
    with np.errstate(all="ignore"):
        product = Rounded().read(a) @ b.astype(np.float64)
        extras = view_extras(spec.epilogue, args[2:], dims[3:], m, spec.n)
        return (evaluate(spec.epilogue, product, extras),)

"""Meaning of the matmul with a correction, in numpy over the packed bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from tilewright.backends.kernels.factored_matmul import reference as factors
from tilewright.backends.kernels.grouped_matmul import reference as grouped
from tilewright.backends.kernels.repaired_matmul.packing import split
from tilewright.backends.kernels.repaired_matmul.spec import RepairedMatmulSpec
from tilewright.backends.llvm.epilogue import IDENTITY, evaluate, view_extras


def run(
    spec: RepairedMatmulSpec, args: Sequence[np.ndarray], dims: tuple[int, ...]
) -> tuple[np.ndarray, ...]:
    """C[M, N] in float64: the sum of both products."""
    m, lda = dims[:2]
    codes, low = split(args[1], spec)
    shape = (m, lda, spec.n)
    (base,) = grouped.run(replace(spec.base, epilogue=IDENTITY), (args[0], codes), shape)
    (more,) = factors.run(spec.factors, (args[0], low), shape)
    with np.errstate(all="ignore"):
        extras = view_extras(spec.epilogue, args[2:], dims[3:], m, spec.n)
        return (evaluate(spec.epilogue, base + more, extras),)

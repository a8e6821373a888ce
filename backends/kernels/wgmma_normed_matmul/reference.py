"""Meaning of the product whose rows are normalized, in numpy over the packed bytes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tilewright.backends.kernels.wgmma_matmul import reference
from tilewright.backends.kernels.wgmma_normed_matmul.spec import WgmmaNormedMatmulSpec
from tilewright.backends.llvm.normalization import evaluate


def run(
    spec: WgmmaNormedMatmulSpec, args: Sequence[np.ndarray], dims: tuple[int, ...]
) -> tuple[np.ndarray, ...]:
    """C[M, N] in float64: the product's reference, normalized."""
    last = 2 + len(spec.product.epilogue.extras)
    (rows,) = reference.run(spec.product, args[:last], dims)
    vectors = args[last : last + spec.norm.arguments]
    with np.errstate(all="ignore"):
        return (evaluate(spec.norm, rows, [v.reshape(-1)[: spec.product.n] for v in vectors]),)

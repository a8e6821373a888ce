"""Meaning of the product: that of `wgmma_matmul`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tilewright.backends.kernels.wgmma_matmul import reference
from tilewright.backends.kernels.wgmma_turned_matmul.spec import WgmmaTurnedMatmulSpec


def run(
    spec: WgmmaTurnedMatmulSpec, args: Sequence[np.ndarray], dims: tuple[int, ...]
) -> tuple[np.ndarray, ...]:
    """C[M, N] in float64."""
    return reference.run(spec.product, args, dims)

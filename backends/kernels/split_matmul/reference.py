"""Meaning of the split matmul: that of the f32 matmul, on the same packed bytes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tilewright.backends.kernels.f32_matmul import reference
from tilewright.backends.kernels.f32_matmul.spec import MatmulSpec
from tilewright.backends.kernels.split_matmul.spec import SplitMatmulSpec


def run(
    spec: SplitMatmulSpec, args: Sequence[np.ndarray], dims: tuple[int, ...]
) -> tuple[np.ndarray, ...]:
    """C[M, N] in float64 precision from the kernel's own operands."""
    return reference.run(MatmulSpec(spec.k, spec.n, spec.epilogue), args, dims)

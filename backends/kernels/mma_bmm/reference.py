"""Meaning of the batched matmul in f16 or bf16, in numpy over the kernel's own operands."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tilewright.backends.kernels.f32_bmm import reference
from tilewright.backends.kernels.mma_bmm.spec import MmaBmmSpec
from tilewright.backends.kernels.mma_matmul.packing import TYPES


def run(
    spec: MmaBmmSpec, args: Sequence[np.ndarray], dims: tuple[int, ...]
) -> tuple[np.ndarray, ...]:
    """C [b.., M, N] in float64, dense: A and B rounded, exact sums."""
    with np.errstate(all="ignore"):
        rounded = [x.astype(TYPES[spec.dtype]).astype(np.float32) for x in args[:2]]
        return reference.run(spec, (*rounded, *args[2:]), dims)

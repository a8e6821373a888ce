"""Meaning of the matmul with two factors: that of one product after the other."""

from __future__ import annotations

from collections.abc import Sequence

import ml_dtypes
import numpy as np

from tilewright.backends.kernels.factored_matmul.packing import split
from tilewright.backends.kernels.factored_matmul.pair import Pair
from tilewright.backends.llvm.formats import F32_FORMAT

TYPES = {F32_FORMAT: np.dtype(np.float32), "bf16": np.dtype(ml_dtypes.bfloat16)}
"""Formats of the middle as numpy types."""


def run(spec: Pair, args: Sequence[np.ndarray], dims: tuple[int, ...]) -> tuple[np.ndarray, ...]:
    """C[M, N] in float64 from the packed factors; the middle is rounded to its format."""
    m, lda, _, *strides = dims
    left, right = split(args[1], spec)
    (middle,) = spec.inner.reference(spec.left, (args[0], left), (m, lda, spec.rank))
    with np.errstate(all="ignore"):
        rows = np.ascontiguousarray(middle.astype(TYPES[spec.middle]))
    return spec.inner.reference(
        spec.right, (rows, right, *args[2:]), (m, spec.rank, spec.n, *strides)
    )

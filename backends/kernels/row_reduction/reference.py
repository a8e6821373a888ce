"""Meaning of reductions of rows, in numpy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tilewright.backends.kernels import readings
from tilewright.backends.kernels.row_reduction.spec import RowReductionSpec


def run(
    spec: RowReductionSpec, args: Sequence[np.ndarray], dims: tuple[int, ...]
) -> tuple[np.ndarray, ...]:
    """Results in float64 precision from the kernel's own operands."""
    m, stride = dims
    ids = args[1].reshape(m, spec.reading.count) if spec.reading.ids else None
    if spec.part:
        made = args[0].reshape(spec.parts, m, spec.reading.words)
        return tuple(readings.combined(spec.reading, made, spec.part, spec.n, ids))
    x = np.lib.stride_tricks.as_strided(args[0], (m, spec.n), (4 * stride, 4))
    return tuple(readings.results(spec.reading, x, ids))

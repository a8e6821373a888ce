"""How much of a matrix its small elements are."""

from __future__ import annotations

import numpy as np

from tilewright.compiler.formats.null_models import blocks_dropped
from tilewright.passes.structure.found import Energy, Gauge
from tilewright.passes.structure.matrix import Matrix

DROPPED = 0.5
SEEN = 1 << 18
"""Elements that stand for all, in whole rows: 2^18 give the loss to half a percent."""


def measure_magnitudes(matrix: Matrix) -> Energy | None:
    """What is lost with the smaller half of all elements."""
    if matrix.w.size < 4096:
        return None
    step = max(1, matrix.k * matrix.n // SEEN)
    rows = matrix.w[::step] if 64 * step <= matrix.k else matrix.w
    squares = np.square(rows, dtype=np.float64).reshape(-1)
    drop = int(DROPPED * len(squares))
    lost = float(np.partition(squares, drop)[:drop].sum() / max(squares.sum(), 1e-300))
    return Energy("unstructured", "half of the elements", lost, blocks_dropped(DROPPED, 1))


GAUGES = (Gauge("unstructured", measure_magnitudes),)

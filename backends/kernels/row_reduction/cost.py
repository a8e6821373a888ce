"""Cost of reductions of rows."""

from __future__ import annotations

from tilewright.backends.kernels.family import Cost
from tilewright.backends.kernels.readings import Reading
from tilewright.backends.kernels.row_reduction.spec import ELEMENT, RowReductionSpec
from tilewright.backends.target import Target

COMPARED, ADDED = 4, 18
"""Vector instructions for each element: comparisons that see NaN, and an exponential too."""


def estimate(spec: RowReductionSpec, dims: tuple[int, ...], _target: Target) -> Cost:
    """A pass over X; results."""
    m = dims[0]
    elements = m * (spec.parts * spec.reading.words if spec.part else spec.n)
    written = sum(ELEMENT[t] * m * count for t, count in spec.reading.results)
    return Cost(
        flops=elements,
        bytes=4 * elements + written,
        issued=1,
        epilogue=steps(spec.reading, elements),
        written=written,
    )


def steps(reading: Reading, elements: int) -> int:
    """Elementwise operations on ``elements`` elements that are reduced."""
    return (COMPARED if reading.kind in ("max", "argmax", "top") else ADDED) * elements

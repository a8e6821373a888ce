"""Cost of storing rows."""

from __future__ import annotations

from math import log2

from tilewright.backends.kernels.encoded_rows.spec import EncodedRowsSpec
from tilewright.backends.kernels.family import Cost
from tilewright.backends.target import Target


def estimate(spec: EncodedRowsSpec, dims: tuple[int, ...], _target: Target) -> Cost:
    """Two passes over each row: rotation and greatest element, then codes."""
    rows = dims[0] * dims[1] * dims[2]
    elements = rows * spec.size
    written = rows * (spec.made.width(spec.size) + 4)
    each = 8 + 3 * int(log2(spec.made.block(spec.size)))
    return Cost(
        flops=2 * elements,
        bytes=4 * elements + written,
        converted=elements,
        epilogue=each * elements,
        written=written,
        blocks=rows,
    )

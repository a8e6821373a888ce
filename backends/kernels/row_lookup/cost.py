"""Cost of a lookup: bytes, and what makes a number of each code."""

from __future__ import annotations

from tilewright.backends.kernels.family import Cost
from tilewright.backends.kernels.row_lookup import panels
from tilewright.backends.kernels.row_lookup.spec import PANELS, TIED, RowLookupSpec
from tilewright.backends.target import Target

LINE = 64

OPERATIONS = {"f32": 0, PANELS: 0, "bf16": 1, "w8-sym": 2}
"""Elementwise operations an element; 4 where it is one of several in a byte, or has a zero."""


def estimate(spec: RowLookupSpec, dims: tuple[int, ...], _target: Target) -> Cost:
    """Rows of the table and of the result once; every word of a panel has its own line."""
    m = dims[0]
    row = spec.row_bytes
    if spec.kind == PANELS:
        row = LINE * spec.width
    elif spec.tied:
        parts = panels.layout(spec.tied, spec.width, spec.rows)
        words = spec.width * parts.bits // (8 * panels.WORD)
        row = LINE * (words + 2 * -(-spec.width // parts.group))
    elements = m * spec.width
    return Cost(
        flops=0,
        bytes=m * row + 4 * elements + m * (8 if spec.index == "i64" else 4),
        written=4 * elements,
        weights=min(m * row, spec.packed_bytes),
        epilogue=OPERATIONS.get(spec.kind.removeprefix(TIED), 4) * elements,
    )

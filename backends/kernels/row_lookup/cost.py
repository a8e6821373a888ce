"""Cost of a lookup: bytes, and the conversion of each element."""

from __future__ import annotations

from tilewright.backends.kernels.family import Cost
from tilewright.backends.kernels.row_lookup import panels
from tilewright.backends.kernels.row_lookup.spec import PANELS, RowLookupSpec
from tilewright.backends.target import Target

LINE = 64


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
        converted=0 if spec.kind == "f32" else elements,
    )

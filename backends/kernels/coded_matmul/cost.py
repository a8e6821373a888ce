"""Cost of the matmul with codes."""

from __future__ import annotations

from tilewright.backends.kernels import work
from tilewright.backends.kernels.coded_matmul.spec import FEW, CodedMatmulSpec, layout
from tilewright.backends.kernels.family import Cost
from tilewright.backends.llvm.microkernel import PANEL
from tilewright.backends.target import Target


def estimate(spec: CodedMatmulSpec, dims: tuple[int, ...], target: Target) -> Cost:
    """2 M K N operations; A, packed B, C and full-size extras once."""
    m = dims[0]
    weights = layout(spec).bytes
    wide = spec.panels * PANEL * spec.k
    product, passes = work.Work(), 0
    if m <= FEW:
        # A code costs about as much as two FMAs.
        product, passes = work.Work(issued=2 * wide * (m + 2), blocks=spec.panels), min(m, 1)
    else:
        for rows, times in work.row_blocks(m, spec.rows_per_unit):
            decoded = work.Work(issued=6 * wide, streamed=8 * wide)
            product += (work.f32_product(target, rows, spec.k, spec.n) + decoded) * times
            passes += times
    full = work.full_extras(spec.epilogue)
    return Cost(
        flops=2 * m * spec.k * spec.n,
        bytes=4 * (m * spec.k + (1 + full) * m * spec.n) + weights,
        issued=product.issued,
        weights=weights,
        passes=passes,
        streamed=product.streamed + passes * weights,
        epilogue=work.epilogue(spec.epilogue, m * spec.n),
        written=4 * m * spec.n,
        blocks=product.blocks,
    )

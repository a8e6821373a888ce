"""Cost of the f16 matmul."""

from __future__ import annotations

from tilewright.backends.kernels import work
from tilewright.backends.kernels.f16_matmul.spec import F16MatmulSpec, layout
from tilewright.backends.kernels.family import Cost
from tilewright.backends.llvm.f16_gemm import HALF, most_rows
from tilewright.backends.llvm.microkernel import PANEL
from tilewright.backends.target import Target

WIDENED = 8
"""Operations of f32 that take as long as widening an element beforehand."""


def estimate(spec: F16MatmulSpec, dims: tuple[int, ...], target: Target) -> Cost:
    """2 M K N operations; A, packed B, C and full-size extras once."""
    m = dims[0]
    weights = layout(spec).bytes
    product, passes = work.Work(), 0
    for rows, times in work.row_blocks(m, spec.rows_per_unit):
        product += _unit_rows(spec, rows, target) * times
        passes += times
    full = work.full_extras(spec.epilogue)
    return Cost(
        flops=2 * m * spec.k * spec.n,
        bytes=4 * (m * spec.k + (1 + full) * m * spec.n) + weights,
        unit="f16" if spec.chain else "f32",
        issued=product.issued,
        weights=weights,
        passes=passes,
        streamed=product.streamed + passes * weights,
        converted=m * spec.k if spec.chain else 0,
        epilogue=work.epilogue(spec.epilogue, m * spec.n) + m * spec.n,
        written=4 * m * spec.n,
        blocks=product.blocks,
    )


def _unit_rows(spec: F16MatmulSpec, rows: int, target: Target) -> work.Work:
    """All panels for the rows of one unit."""
    wide = spec.k * spec.panels * PANEL
    if not spec.chain and rows > most_rows(target):
        # A vector is loaded, widened and stored in about two cycles.
        widened = work.Work(issued=WIDENED * wide)
        return work.f32_product(target, rows, spec.k, spec.n) + widened
    issued = 2 * rows * wide
    # A chain is as long as its conversion and addition at the end. Widened vectors pass through the
    # ports of the FMAs.
    issued += issued // 2 if spec.chain else 3 * issued // 8
    blocks = -(-rows // most_rows(target))
    read = (HALF if spec.chain else 4) * rows * spec.k * spec.panels
    return work.Work(issued, read, blocks * spec.panels)

"""Cost of the f32 matmul."""

from __future__ import annotations

from tilewright.backends.kernels import work
from tilewright.backends.kernels.f32_matmul.spec import MatmulSpec
from tilewright.backends.kernels.family import Cost
from tilewright.backends.llvm.microkernel import PANEL, few
from tilewright.backends.target import Target


def estimate(spec: MatmulSpec, dims: tuple[int, ...], target: Target) -> Cost:
    """2 M K N operations; A, packed B, C and full-size extras once."""
    m = dims[0]
    weights = 4 * spec.panels * PANEL * spec.k
    product, passes = work.Work(), 0
    for rows, times in work.row_blocks(m, spec.rows_per_unit):
        product += _unit_rows(spec, rows, target) * times
        passes += times
    full = work.full_extras(spec.epilogue)
    return Cost(
        flops=2 * m * spec.k * spec.n,
        bytes=4 * (m * spec.k + (1 + full) * m * spec.n) + weights,
        issued=product.issued,
        weights=weights,
        passes=passes,
        streamed=product.streamed,
        epilogue=work.epilogue(spec.epilogue, m * spec.n),
        written=4 * m * spec.n,
        blocks=product.blocks,
    )


def _unit_rows(spec: MatmulSpec, rows: int, target: Target) -> work.Work:
    """All panels for the rows of one unit; sums of earlier slices are read and written again."""
    if not spec.sliced or rows <= few(target):
        return work.f32_product(target, rows, spec.k, spec.n)
    whole, rest = divmod(spec.k, spec.depth)
    made = work.f32_product(target, rows, spec.depth, spec.n) * whole
    if rest:
        made += work.f32_product(target, rows, rest, spec.n)
    again = 8 * rows * spec.panels * PANEL * (whole - (0 if rest else 1))
    return made + work.Work(streamed=again)

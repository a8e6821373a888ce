"""Cost of the split matmul."""

from __future__ import annotations

from tilewright.backends.kernels import work
from tilewright.backends.kernels.family import Cost
from tilewright.backends.kernels.split_matmul.spec import SplitMatmulSpec
from tilewright.backends.kernels.work import Work
from tilewright.backends.llvm import bf16
from tilewright.backends.llvm.amx import ROWS
from tilewright.backends.llvm.bf16_block import STEP
from tilewright.backends.llvm.microkernel import PANEL
from tilewright.backends.llvm.split_tiles import BLOCK
from tilewright.backends.target import Target


def estimate(spec: SplitMatmulSpec, dims: tuple[int, ...], target: Target) -> Cost:
    """2 M K N operations; A, packed B, C and full-size extras once."""
    m = dims[0]
    full = work.full_extras(spec.epilogue)
    weights = 4 * spec.panels * PANEL * spec.k
    tiles = m >= spec.from_rows
    product, passes = Work(), 0
    for rows, times in work.row_blocks(m, spec.rows if tiles else max(m, 1)):
        if tiles:
            product += tile_work(spec, rows) * times
        else:
            product += work.f32_product(target, rows, spec.k, spec.n)
        passes += times
    return Cost(
        flops=2 * m * spec.k * spec.n,
        bytes=4 * (m * spec.k + (1 + full) * m * spec.n) + weights,
        unit="bf16_tile" if tiles else "f32",
        issued=product.issued,
        weights=weights,
        passes=passes,
        streamed=product.streamed,
        # The panels are split between tile instructions, which is free with two blocks of rows.
        converted=m * spec.k * bf16.PLANES[spec.products] if tiles else 0,
        # So is the epilogue, but for an eighth (see bf16_matmul).
        epilogue=work.epilogue(spec.epilogue, m * spec.n) // (8 if tiles else 1),
        written=4 * m * spec.n,
        blocks=product.blocks,
    )


def tile_work(spec: SplitMatmulSpec, rows: int) -> Work:
    """llvm.split_gemm: ``rows`` rows by all panels."""
    shape = spec.shape
    depth = shape.steps * STEP
    issued = 2 * -(-rows // ROWS) * ROWS * depth * PANEL * spec.panels * spec.products
    # Parts of A pass from L2 for every panel, those of a panel once.
    parts = 2 * shape.planes * depth
    streamed = spec.panels * (parts * rows + (parts + 4 * spec.k) * PANEL)
    return Work(issued, streamed, -(-rows // BLOCK) * spec.panels * -(-shape.steps // shape.chunk))

"""Cost of the bf16 matmul."""

from __future__ import annotations

from tilewright.backends.kernels import work
from tilewright.backends.kernels.bf16_matmul.spec import Bf16MatmulSpec
from tilewright.backends.kernels.family import Cost
from tilewright.backends.kernels.work import Work
from tilewright.backends.llvm import amx, formats
from tilewright.backends.llvm.amx import ROWS
from tilewright.backends.llvm.bf16_block import STEP
from tilewright.backends.llvm.bf16_gemm import AMX_ROWS, DOT_ROWS
from tilewright.backends.llvm.microkernel import PANEL
from tilewright.backends.target import Target

BESIDE_TILES = 8
"""An epilogue runs between tile instructions; about an eighth of it is left: GELU adds 10 us to the
119 us of 128 x 384 x 1536 with bias alone."""


NORMALIZED = 8
"""Operations of a normalization that take as long as the conversion of an element."""


def estimate(spec: Bf16MatmulSpec, dims: tuple[int, ...], target: Target) -> Cost:
    """2 M K N operations for each of the products; A and C, packed B, full extras once."""
    m = dims[0]
    full = work.full_extras(spec.epilogue)
    weights = 2 * spec.planes * spec.panels * PANEL * spec.steps * STEP
    product, passes = Work(), 0
    tiles = unit_of(target, min(m, spec.rows_per_unit)) == "bf16_tile"
    normalized = 0 if spec.norm is None else m * spec.k * spec.norm.operations // NORMALIZED
    for rows, times in work.row_blocks(m, spec.rows_per_unit):
        product += product_work(target, spec, rows) * times
        passes += times
    return Cost(
        flops=2 * m * spec.k * spec.n * spec.products,
        bytes=formats.BYTES[spec.a] * m * spec.k
        + (formats.BYTES[spec.c] + 4 * full) * m * spec.n
        + weights,
        unit="bf16_tile" if tiles else "bf16_dot",
        issued=product.issued,
        weights=weights,
        passes=passes,
        streamed=product.streamed,
        converted=0 if spec.direct and tiles else m * spec.k * spec.planes + normalized,
        epilogue=work.epilogue(spec.epilogue, m * spec.n) // (BESIDE_TILES if tiles else 1),
        written=formats.BYTES[spec.c] * m * spec.n,
        blocks=product.blocks,
    )


def unit_of(target: Target, rows: int) -> str:
    """What multiplies blocks of ``rows`` rows."""
    return "bf16_tile" if amx.has_bf16(target) and rows >= AMX_ROWS else "bf16_dot"


def product_work(target: Target, spec: Bf16MatmulSpec, rows: int) -> Work:
    """llvm.bf16_gemm.emit_rows: ``rows`` rows by all panels."""
    depth = spec.steps * STEP
    weights = 2 * spec.planes * spec.panels * PANEL * depth
    own = 2 * spec.planes * depth * rows
    if unit_of(target, rows) == "bf16_dot":
        passes = -(-rows // DOT_ROWS)
        issued = 2 * rows * depth * PANEL * spec.panels * spec.products
        return Work(issued, passes * weights + own, passes * spec.panels)
    tiles, passes = -(-rows // ROWS), -(-rows // (2 * ROWS))
    issued = 2 * tiles * ROWS * depth * PANEL * spec.panels * spec.products
    # A panel stays in L1 while the rows pass; rows that exceed what is left are read again.
    again = spec.panels if own > target.l1_kib << 9 else 1
    return Work(issued, weights + again * own, passes * spec.panels)

"""Cost of the matmul with group-wise integer weights."""

from __future__ import annotations

from tilewright.backends.kernels import work
from tilewright.backends.kernels.family import Cost
from tilewright.backends.kernels.grouped_matmul.llvm import dots
from tilewright.backends.kernels.grouped_matmul.spec import GroupedMatmulSpec
from tilewright.backends.kernels.work import Work
from tilewright.backends.llvm import amx, bf16
from tilewright.backends.llvm.amx import ROWS
from tilewright.backends.llvm.bf16_gemm import AMX_ROWS, DOT_ROWS
from tilewright.backends.llvm.microkernel import PANEL
from tilewright.backends.target import Target


def estimate(spec: GroupedMatmulSpec, dims: tuple[int, ...], target: Target) -> Cost:
    """2 M K N operations; A, packed B, C and full extras once. Many rows widen B, once for each
    block of rows."""
    m = dims[0]
    weights = spec.panel.read_bytes
    depth, width = spec.panel.depth, spec.panels * PANEL
    few = m <= spec.few and dots(spec, target)
    product, passes = Work(), 0
    for rows, times in work.row_blocks(m, m if few else spec.rows_per_unit):
        made = _few(spec, rows) if few else many(spec, target, rows)
        product += made * times
        passes += times
    full = work.full_extras(spec.epilogue)
    return Cost(
        flops=2 * m * spec.k * spec.n,
        bytes=4 * m * spec.k + 4 * (1 + full) * m * spec.n + weights,
        unit=unit(spec, target, min(m, spec.rows_per_unit), few),
        issued=product.issued,
        weights=weights,
        passes=passes,
        streamed=product.streamed,
        converted=m * spec.k + (0 if few else passes * depth * width),
        epilogue=work.epilogue(spec.epilogue, m * spec.n),
        written=4 * m * spec.n,
        blocks=product.blocks,
    )


def unit(spec: GroupedMatmulSpec, target: Target, rows: int, few: bool) -> str:
    """What multiplies; `few`: codes as they are."""
    if few:
        return "int8_dot" if spec.int8 else "bf16_dot"
    if not bf16.has_dots(target):
        return "f32"
    return "bf16_tile" if amx.has_bf16(target) and rows >= AMX_ROWS else "bf16_dot"


def _few(spec: GroupedMatmulSpec, rows: int) -> Work:
    """Taking codes apart costs as much as one more row (bytes) or two (pairs)."""
    depth, width = spec.panel.depth, spec.panels * PANEL
    taken = 1 if spec.int8 else 2
    issued = 2 * (rows + taken) * depth * width
    return Work(issued, spec.panel.read_bytes + rows * depth, spec.panels)


def many(spec: GroupedMatmulSpec, target: Target, rows: int) -> Work:
    """Products with widened panels, which are in L2."""
    depth, width = spec.panel.depth, spec.panels * PANEL
    if not bf16.has_dots(target):
        return work.f32_product(target, rows, spec.k, spec.n)
    tiles = amx.has_bf16(target) and rows >= AMX_ROWS
    passes = -(-rows // (2 * ROWS if tiles else DOT_ROWS))
    whole = -(-rows // ROWS) * ROWS if tiles else rows
    own = 2 * depth * rows
    again = spec.panels if own > target.l1_kib << 9 else 1
    streamed = 2 * depth * width * (1 if tiles else passes) + again * own
    return Work(2 * whole * depth * width, streamed, passes * spec.panels)

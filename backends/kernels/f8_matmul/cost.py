"""Cost of the matmul with weights of 8-bit floats."""

from __future__ import annotations

from tilewright.backends.kernels import work
from tilewright.backends.kernels.f8_matmul.spec import F8MatmulSpec
from tilewright.backends.kernels.family import Cost
from tilewright.backends.kernels.work import Work
from tilewright.backends.llvm import amx, bf16
from tilewright.backends.llvm.amx import ROWS
from tilewright.backends.llvm.bf16_block import STEP, steps
from tilewright.backends.llvm.bf16_gemm import AMX_ROWS, DOT_ROWS
from tilewright.backends.llvm.microkernel import PANEL
from tilewright.backends.target import Target


def estimate(spec: F8MatmulSpec, dims: tuple[int, ...], target: Target) -> Cost:
    """2 M K N operations; A, packed B, C and full extras once. B is widened once for each block of
    rows."""
    m = dims[0]
    depth, width = steps(spec.k) * STEP, spec.panels * PANEL
    product, passes = Work(), 0
    for rows, times in work.row_blocks(m, spec.rows_per_unit):
        product += _block(spec, target, rows, depth, width) * times
        passes += times
    full = work.full_extras(spec.epilogue)
    return Cost(
        flops=2 * m * spec.k * spec.n,
        bytes=4 * m * spec.k + 4 * (1 + full) * m * spec.n + spec.packed_bytes,
        unit=_unit(spec, target, min(m, spec.rows_per_unit)),
        issued=product.issued,
        weights=spec.packed_bytes,
        passes=passes,
        streamed=product.streamed,
        converted=m * spec.k + passes * depth * width,
        epilogue=work.epilogue(spec.scaled, m * spec.n),
        written=4 * m * spec.n,
        blocks=product.blocks,
    )


def _unit(spec: F8MatmulSpec, target: Target, rows: int) -> str:
    if spec.exact or not bf16.has_dots(target):
        return "f32"
    return "bf16_tile" if amx.has_bf16(target) and rows >= AMX_ROWS else "bf16_dot"


def _block(spec: F8MatmulSpec, target: Target, rows: int, depth: int, width: int) -> Work:
    """Products with widened panels, which are in L2."""
    if _unit(spec, target, rows) == "f32":
        return work.f32_product(target, rows, spec.k, spec.n)
    tiles = amx.has_bf16(target) and rows >= AMX_ROWS
    passes = -(-rows // (2 * ROWS if tiles else DOT_ROWS))
    whole = -(-rows // ROWS) * ROWS if tiles else rows
    own = 2 * depth * rows
    again = spec.panels if own > target.l1_kib << 9 else 1
    streamed = 2 * depth * width * (1 if tiles else passes) + again * own
    return Work(2 * whole * depth * width, streamed, passes * spec.panels)

"""Cost of the matmul with bit planes."""

from __future__ import annotations

from tilewright.backends.kernels import work
from tilewright.backends.kernels.family import Cost
from tilewright.backends.kernels.plane_matmul.spec import PlaneMatmulSpec
from tilewright.backends.kernels.work import Work
from tilewright.backends.llvm import amx, bf16
from tilewright.backends.llvm.amx import ROWS
from tilewright.backends.llvm.bf16_gemm import AMX_ROWS, DOT_ROWS
from tilewright.backends.llvm.microkernel import PANEL
from tilewright.backends.target import Target

LOOKUP = {16: 7, 8: 5}
"""By f32 lanes, instructions for the two lookups of a vector of bytes, with taking codes apart and
adding up, as far as two a cycle are done; those of 512 bits shuffle once a cycle."""

WIDENED = {True: 3, False: 1}
"""Operations for a weight of a plane that is brought to bf16 (True) or f32."""


def estimate(spec: PlaneMatmulSpec, dims: tuple[int, ...], target: Target) -> Cost:
    """2 M K N operations; A, packed B, C and full extras once. Few rows look up the sums of four k
    of a plane in as many bytes as a vector has; more rows widen B, once for each block of rows."""
    m = dims[0]
    panel, panels = spec.panel, spec.shape.panels
    weights = panels * panel.bytes
    few = spec.looks_up(m)
    product, passes = Work(), 0
    for rows, times in work.row_blocks(m, spec.few if few else spec.shape.rows_per_unit):
        made = _few(spec, target, rows) if few else _many(spec, target, rows)
        product += made * times
        passes += times
    full = work.full_extras(spec.epilogue)
    wide = panels * PANEL * panel.depth
    return Cost(
        flops=2 * m * spec.k * spec.n,
        bytes=4 * m * spec.k + 4 * (1 + full) * m * spec.n + weights,
        unit=_unit(target, min(m, spec.shape.rows_per_unit), few),
        issued=product.issued,
        weights=weights,
        passes=passes,
        streamed=product.streamed,
        converted=(4 if few else 1) * m * spec.k,
        epilogue=work.epilogue(spec.epilogue, m * spec.n)
        + (0 if few else passes * wide * panel.bits * WIDENED[bf16.has_dots(target)]),
        written=4 * m * spec.n,
        blocks=product.blocks,
    )


def _unit(target: Target, rows: int, few: bool) -> str:
    if few or not bf16.has_dots(target):
        return "f32"
    return "bf16_tile" if amx.has_bf16(target) and rows >= AMX_ROWS else "bf16_dot"


def _few(spec: PlaneMatmulSpec, target: Target, rows: int) -> Work:
    """In the time of FMAs, two of which a cycle makes, as it does two of these instructions."""
    panel, panels = spec.panel, spec.shape.panels
    lookups = panels * PANEL * panel.depth // 4 * panel.bits * rows // (4 * target.lanes_f32)
    issued = 2 * target.lanes_f32 * LOOKUP[target.lanes_f32] * lookups
    spans = panels * panel.spans * rows * 4 * (panel.bits + 2) * PANEL
    return Work(issued + spans, panels * panel.bytes * rows + 16 * rows * panel.depth, panels)


def _many(spec: PlaneMatmulSpec, target: Target, rows: int) -> Work:
    """Products with widened panels, which are in L2."""
    if not bf16.has_dots(target):
        return work.f32_product(target, rows, spec.k, spec.n)
    panels, depth = spec.shape.panels, spec.panel.depth
    tiles = amx.has_bf16(target) and rows >= AMX_ROWS
    passes = -(-rows // (2 * ROWS if tiles else DOT_ROWS))
    whole = -(-rows // ROWS) * ROWS if tiles else rows
    own = 2 * depth * rows
    again = panels if own > target.l1_kib << 9 else 1
    streamed = 2 * depth * panels * PANEL * (1 if tiles else passes) + again * own
    return Work(2 * whole * depth * panels * PANEL, streamed, passes * panels)

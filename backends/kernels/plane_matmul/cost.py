"""Cost of the matmul with bit planes."""

from __future__ import annotations

from tilewright.backends.kernels import work
from tilewright.backends.kernels.family import Cost
from tilewright.backends.kernels.plane_matmul.spec import PlaneMatmulSpec
from tilewright.backends.kernels.work import Work
from tilewright.backends.llvm import bf16
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
    unit, product, passes = "f32", Work(), 0
    for rows, times in work.row_blocks(m, spec.few if few else spec.shape.rows_per_unit):
        if few:
            made = _few(spec, target, rows)
        else:
            unit, made = work.widened(target, rows, panel.depth, panels)
        product += made * times
        passes += times
    full = work.full_extras(spec.epilogue)
    wide = panels * PANEL * panel.depth
    return Cost(
        flops=2 * m * spec.k * spec.n,
        bytes=4 * m * spec.k + 4 * (1 + full) * m * spec.n + weights,
        unit=unit,
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


def _few(spec: PlaneMatmulSpec, target: Target, rows: int) -> Work:
    """In the time of FMAs, two of which a cycle makes, as it does two of these instructions."""
    panel, panels = spec.panel, spec.shape.panels
    lookups = panels * PANEL * panel.depth // 4 * panel.bits * rows // (4 * target.lanes_f32)
    issued = 2 * target.lanes_f32 * LOOKUP[target.lanes_f32] * lookups
    spans = panels * panel.spans * rows * 4 * (panel.bits + 2) * PANEL
    return Work(issued + spans, panels * panel.bytes * rows + 16 * rows * panel.depth, panels)

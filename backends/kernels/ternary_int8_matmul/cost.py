"""Cost of the matmul with ternary weights and 8-bit rows."""

from __future__ import annotations

from tilewright.backends.kernels import work
from tilewright.backends.kernels.family import Cost
from tilewright.backends.kernels.ternary_int8_matmul.spec import TernaryInt8MatmulSpec
from tilewright.backends.kernels.work import Work
from tilewright.backends.llvm import int8
from tilewright.backends.llvm.microkernel import PANEL
from tilewright.backends.llvm.ternary_dots import row_bytes
from tilewright.backends.target import Target

LINE = 11
"""Instructions for a line of 9 k of trits and 32 columns, as far as two a cycle are done."""

PAIRS = 2
"""Instructions for four k of a vector of columns by vpmaddubsw, as far as two a cycle are done."""

WIDENED = {True: 4, False: 3}
"""Operations for a weight that is brought to bf16 (True) or f32."""


def estimate(spec: TernaryInt8MatmulSpec, dims: tuple[int, ...], target: Target) -> Cost:
    """2 M K N operations; A, packed B, C and full extras once. Many rows by 2-bit codes widen B,
    once for each block of rows."""
    m = dims[0]
    panel, panels = spec.panel, spec.shape.panels
    weights = panels * panel.bytes
    exact = spec.exact(m)
    unit = "f32"
    product, passes = Work(), 0
    for rows, times in work.row_blocks(m, spec.few if exact else spec.shape.rows_per_unit):
        if exact:
            unit, made = _few(spec, target, rows)
        else:
            unit, made = work.widened(target, rows, panel.depth, panels)
        product += made * times
        passes += times
    full = work.full_extras(spec.epilogue)
    wide = passes * panels * PANEL * panel.depth
    return Cost(
        flops=2 * m * spec.k * spec.n,
        bytes=4 * m * spec.k + 4 * (1 + full) * m * spec.n + weights,
        unit=unit,
        issued=product.issued,
        weights=weights,
        passes=passes,
        streamed=product.streamed,
        converted=(4 if spec.trits else 1) * m * spec.k,
        epilogue=work.epilogue(spec.epilogue, m * spec.n)
        + (0 if exact else wide * WIDENED[unit != "f32"]),
        written=4 * m * spec.n,
        blocks=product.blocks,
    )


def _few(spec: TernaryInt8MatmulSpec, target: Target, rows: int) -> tuple[str, Work]:
    """Unit, and work in its terms. Instructions count as FMAs of f32 where no unit has them."""
    panel, panels = spec.panel, spec.shape.panels
    read = panels * panel.bytes * (rows if spec.trits else -(-rows // 4))
    streamed = read + rows * row_bytes(panel)
    if spec.trits:
        lines = panels * panel.lines * rows
        return "f32", Work(2 * target.lanes_f32 * LINE * lines, streamed, panels)
    wide = panels * PANEL * panel.depth
    if int8.dots(target).held == "u8":
        # Taking codes apart costs as much as one more row of four.
        return "int8_dot", Work(2 * (rows + -(-rows // 4)) * wide, streamed, panels)
    return "f32", Work(2 * (PAIRS * rows + 1) * wide // 4, streamed, panels)

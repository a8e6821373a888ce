"""Cost of the matmul with bitmaps."""

from __future__ import annotations

from tilewright.backends.kernels import work
from tilewright.backends.kernels.bitmap_matmul.spec import BitmapMatmulSpec, few
from tilewright.backends.kernels.family import Cost
from tilewright.backends.kernels.work import Work
from tilewright.backends.llvm import amx, bf16, int8
from tilewright.backends.llvm.amx import ROWS
from tilewright.backends.llvm.bitmap_lines import LINE, PER_GROUP, expands
from tilewright.backends.llvm.int8_microkernel import most_rows
from tilewright.backends.llvm.int8_scaled_gemm import AMX_ROWS
from tilewright.backends.llvm.microkernel import PANEL
from tilewright.backends.target import Target

EXPANDED = {1: 2.7, 2: 2.4, 4: 3.9}
"""Cycles of a line on the port that brings its mask and expands it, by k of four bytes."""

MULTIPLIED = {1: 0.4, 2: 1.8, 4: 0.6}
"""And for each row that meets it: 1, 4 and 7 rows by 384 x 1024 in L2 take in f32 29, 33 and 62 us,
in bf16 20, 45 and 77, in s8 10, 16 and 18."""

DEPOSITED = 20
"""Cycles of a line by eight words."""


def estimate(spec: BitmapMatmulSpec, dims: tuple[int, ...], target: Target) -> Cost:
    """2 M K N operations; A, packed B, C and full extras once."""
    m, most = dims[0], few(spec, target)
    weights = spec.packed_bytes
    product, passes, unit = Work(), 0, "f32"
    lines = spec.panels * spec.groups * PER_GROUP
    expanding = 0
    if m <= most:
        cycles = EXPANDED[spec.q] + MULTIPLIED[spec.q] * m
        product = Work(int(_operations(target, cycles) * lines), weights, spec.panels)
        passes = min(m, 1)
    else:
        for rows, times in work.row_blocks(m, spec.rows_per_unit):
            unit, made = _product(spec, target, rows)
            product += made * times
            passes += times
        cycles = EXPANDED[spec.q] + 1 if expands(target, spec.q) else DEPOSITED
        expanding = int(_operations(target, cycles) * lines * passes)
    full = work.full_extras(spec.epilogue)
    return Cost(
        flops=2 * m * spec.k * spec.n,
        bytes=4 * (m * spec.k + (1 + full) * m * spec.n) + weights,
        unit=unit,
        issued=product.issued + (expanding if unit == "f32" else 0),
        weights=weights,
        passes=passes,
        streamed=product.streamed + (LINE * lines * passes if m > most else 0),
        converted=0 if spec.q == 1 else m * spec.k,
        epilogue=work.epilogue(spec.epilogue, m * spec.n)
        + (3 * m * spec.n if spec.q == 4 else 0)
        + (0 if unit == "f32" else expanding // 2),
        written=4 * m * spec.n,
        blocks=product.blocks,
    )


def _operations(target: Target, cycles: float) -> float:
    """Of f32 that two pipes make meanwhile."""
    return 4 * target.lanes_f32 * cycles


def _product(spec: BitmapMatmulSpec, target: Target, rows: int) -> tuple[str, Work]:
    """What multiplies expanded panels by so many rows, and its work."""
    if spec.q == 1 or (spec.q == 2 and not bf16.has_dots(target)):
        return "f32", work.f32_product(target, rows, spec.k, spec.n)
    depth = spec.groups * spec.q
    if spec.q == 2:
        return work.widened(target, rows, depth, spec.panels)
    if not amx.has_int8(target) or rows < AMX_ROWS:
        passes = -(-rows // most_rows(int8.dots(target)))
        issued = 2 * rows * depth * PANEL * spec.panels
        read = depth * (passes * PANEL * spec.panels + rows)
        return "int8_dot", Work(issued, read, passes * spec.panels)
    tiles, passes = -(-rows // ROWS), -(-rows // (2 * ROWS))
    issued = 2 * tiles * ROWS * depth * PANEL * spec.panels
    own = depth * rows
    again = spec.panels if own > target.l1_kib << 9 else 1
    return "int8_tile", Work(
        issued, depth * PANEL * spec.panels + again * own, passes * spec.panels
    )

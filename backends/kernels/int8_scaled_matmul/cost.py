"""Cost of the 8-bit matmul with scales."""

from __future__ import annotations

from tilewright.backends.kernels import work
from tilewright.backends.kernels.family import Cost
from tilewright.backends.kernels.int8_scaled_matmul.spec import ScaledMatmulSpec
from tilewright.backends.kernels.work import Work
from tilewright.backends.llvm import amx, formats, int8
from tilewright.backends.llvm.amx import ROWS
from tilewright.backends.llvm.int8 import STEP
from tilewright.backends.llvm.int8_microkernel import most_rows
from tilewright.backends.llvm.int8_scaled_gemm import AMX_ROWS
from tilewright.backends.llvm.microkernel import PANEL
from tilewright.backends.target import Target

BESIDE_TILES = 8
"""An epilogue runs between tile instructions, as in bf16_matmul.cost."""


NORMALIZED = 3
"""Operations of a normalization that take as long as the conversion of an element: 128 x 384 by RMS
takes 9 to 12 us more, as long as its conversion, since the normalized row waits in scratch."""

REREAD = {"": 1.0, "range": 1.1, "smooth": 1.2, "rotate": 2.1, "static": 0.9}
"""What reading rows costs, by what becomes of them: 128 x 1536, of 30 us, takes 3, 5 and 33 more,
and 3 less."""


def estimate(spec: ScaledMatmulSpec, dims: tuple[int, ...], target: Target) -> Cost:
    """2 M K N operations; A, packed B, C and full extras once."""
    m = dims[0]
    product, passes = Work(), 0
    for rows, times in work.row_blocks(m, spec.rows_per_unit):
        product += product_work(target, spec, rows) * times
        passes += times
    full = work.full_extras(spec.epilogue)
    read = REREAD[spec.rewrite] + (spec.norm.operations / NORMALIZED if spec.norm else 0)
    unit = unit_of(target, min(m, spec.rows_per_unit))
    beside = BESIDE_TILES if unit == "int8_tile" else 1
    finished = work.epilogue(spec.epilogue, m * spec.n) + 3 * m * spec.n
    return Cost(
        flops=2 * m * spec.k * spec.n,
        bytes=formats.BYTES[spec.a] * m * spec.k
        + (formats.BYTES[spec.c] + 4 * full) * m * spec.n
        + spec.packed_bytes,
        unit=unit,
        issued=product.issued,
        weights=spec.packed_bytes,
        passes=passes,
        streamed=product.streamed,
        converted=int(m * (spec.k * read + 4 * (spec.outliers + spec.copies))),
        epilogue=finished // beside,
        written=formats.BYTES[spec.c] * m * spec.n,
        blocks=product.blocks,
    )


def unit_of(target: Target, rows: int) -> str:
    """What multiplies blocks of ``rows`` rows."""
    return "int8_tile" if amx.has_int8(target) and rows >= AMX_ROWS else "int8_dot"


def product_work(target: Target, spec: ScaledMatmulSpec, rows: int) -> Work:
    """llvm.int8_scaled_gemm.emit_rows: ``rows`` rows by all panels. A tail of outliers takes as
    long as a step of 64 and its stores, about another one; its sums are written too."""
    tail = 2 if spec.outliers else 0
    depth, panels = spec.depth + tail * STEP, spec.panel_count
    own = spec.depth * rows
    tails = 4 * rows * PANEL * panels if spec.outliers else 0
    if unit_of(target, rows) == "int8_dot":
        passes = -(-rows // most_rows(int8.dots(target)))
        issued = 2 * rows * depth * PANEL * panels
        return Work(issued, passes * spec.packed_bytes + own, passes * panels)
    tiles, passes = -(-rows // ROWS), -(-rows // (2 * ROWS))
    issued = 2 * tiles * ROWS * depth * PANEL * panels
    # A panel stays in L1 while the rows pass; rows that exceed what is left are read again.
    again = panels if own > target.l1_kib << 9 else 1
    return Work(issued, spec.packed_bytes + again * own + tails, passes * panels)

"""Cost of the 8-bit matmul."""

from __future__ import annotations

from tilewright.backends.kernels import work
from tilewright.backends.kernels.family import Cost
from tilewright.backends.kernels.int8_matmul.spec import Int8MatmulSpec
from tilewright.backends.kernels.work import Work
from tilewright.backends.llvm import amx, int8
from tilewright.backends.llvm.amx import ROWS
from tilewright.backends.llvm.int8 import STEP
from tilewright.backends.llvm.int8_block import steps
from tilewright.backends.llvm.int8_gemm import AMX_ROWS
from tilewright.backends.llvm.int8_microkernel import most_rows
from tilewright.backends.llvm.microkernel import PANEL
from tilewright.backends.target import Target

SIZES = {"i32": 4, "f32": 4, "u8": 1, "s8": 1, "f32_tensor": 4}


def estimate(spec: Int8MatmulSpec, dims: tuple[int, ...], target: Target) -> Cost:
    """2 M K N operations; A, packed B, C and full extras once."""
    m = dims[0]
    if target.gpu:
        return _on_gpu(spec, m)
    product, passes = Work(), 0
    for rows, times in work.row_blocks(m, spec.rows_per_unit):
        product += product_work(target, spec, rows) * times
        passes += times
    full = 4 * work.full_extras(spec.epilogue) + SIZES[spec.out]
    return Cost(
        flops=2 * m * spec.k * spec.n,
        bytes=m * spec.k * SIZES[spec.a] + full * m * spec.n + spec.packed_bytes,
        unit=unit_of(target, min(m, spec.rows_per_unit)),
        issued=product.issued,
        weights=spec.packed_bytes,
        passes=passes,
        streamed=product.streamed,
        converted=m * spec.k,
        epilogue=work.epilogue(spec.epilogue, m * spec.n) + m * spec.n,
        written=SIZES[spec.out] * m * spec.n,
        blocks=product.blocks,
    )


def _on_gpu(spec: Int8MatmulSpec, m: int) -> Cost:
    """`cuda`: tiles of 16 or 32 rows a warp; A is read again for every panel."""
    depth, full = steps(spec.k) * STEP, 4 * work.full_extras(spec.epilogue) + SIZES[spec.out]
    panels, own = spec.panel_count, m * spec.k * SIZES[spec.a]
    return Cost(
        flops=2 * m * spec.k * spec.n,
        bytes=own + full * m * spec.n + spec.packed_bytes,
        unit="int8_tile",
        issued=2 * -(-m // 16) * 16 * depth * PANEL * panels,
        weights=spec.packed_bytes,
        streamed=own * panels + -(-m // 32) * spec.packed_bytes,
        epilogue=work.epilogue(spec.epilogue, m * spec.n),
        written=SIZES[spec.out] * m * spec.n,
    )


def unit_of(target: Target, rows: int) -> str:
    """What multiplies blocks of ``rows`` rows."""
    return "int8_tile" if amx.has_int8(target) and rows >= AMX_ROWS else "int8_dot"


def product_work(target: Target, spec: Int8MatmulSpec, rows: int) -> Work:
    """llvm.int8_gemm.emit_rows: ``rows`` rows by all panels."""
    depth, panels = steps(spec.k) * STEP, spec.panel_count
    own = depth * rows
    if unit_of(target, rows) == "int8_dot":
        # The profile's rate is that of the instructions which the target has for it.
        passes = -(-rows // most_rows(int8.dots(target)))
        issued = 2 * rows * depth * PANEL * panels
        return Work(issued, passes * spec.packed_bytes + own, passes * panels)
    tiles, passes = -(-rows // ROWS), -(-rows // (2 * ROWS))
    issued = 2 * tiles * ROWS * depth * PANEL * panels
    # A panel stays in L1 while the rows pass; rows that exceed what is left are read again.
    again = panels if own > target.l1_kib << 9 else 1
    return Work(issued, spec.packed_bytes + again * own, passes * panels)

"""Cost of the f16 matmul."""

from __future__ import annotations

from tilewright.backends.kernels import work
from tilewright.backends.kernels.f16_matmul.spec import F16MatmulSpec, layout
from tilewright.backends.kernels.family import Cost
from tilewright.backends.llvm.f16_gemm import HALF, most_rows
from tilewright.backends.llvm.microkernel import PANEL
from tilewright.backends.target import Target


def estimate(spec: F16MatmulSpec, dims: tuple[int, ...], target: Target) -> Cost:
    """2 M K N operations; A, packed B, C and full-size extras once."""
    m = dims[0]
    full = work.full_extras(spec.epilogue)
    weights = layout(spec).bytes
    blocks = -(-m // most_rows(target))
    passes = -(-m // spec.rows_per_unit)
    # A chain is as long as its conversion and addition at the end. Widened vectors pass through the
    # ports of the FMAs: measured 1.1 to 1.4 times f32_matmul with many rows.
    issued = 2 * m * spec.k * spec.panels * PANEL
    issued += issued // 2 if spec.chain else 3 * issued // 8
    return Cost(
        flops=2 * m * spec.k * spec.n,
        bytes=4 * (m * spec.k + (1 + full) * m * spec.n) + weights,
        unit="f16" if spec.chain else "f32",
        issued=issued,
        weights=weights,
        passes=passes,
        streamed=passes * weights + (HALF if spec.chain else 4) * m * spec.k * spec.panels,
        converted=m * spec.k if spec.chain else 0,
        epilogue=work.epilogue(spec.epilogue, m * spec.n) + m * spec.n,
        written=4 * m * spec.n,
        blocks=blocks * spec.panels,
    )

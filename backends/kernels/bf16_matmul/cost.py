"""Cost of the bf16 matmul."""

from __future__ import annotations

from tilewright.backends.kernels.bf16_matmul.spec import Bf16MatmulSpec
from tilewright.backends.kernels.family import Cost
from tilewright.backends.llvm.bf16_block import STEP
from tilewright.backends.llvm.microkernel import PANEL


def estimate(spec: Bf16MatmulSpec, dims: tuple[int, ...]) -> Cost:
    """2 M K N operations for each of the products; A and C f32, packed B, full extras once."""
    m = dims[0]
    full = sum(e.index == "full" for e in spec.epilogue.extras)
    weights = 2 * spec.planes * spec.panels * PANEL * spec.steps * STEP
    flops = 2 * m * spec.k * spec.n * spec.products
    return Cost(flops, 4 * (m * spec.k + (1 + full) * m * spec.n) + weights)

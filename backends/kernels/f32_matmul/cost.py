"""Cost of the f32 matmul."""

from __future__ import annotations

from tilewright.backends.kernels.f32_matmul.spec import MatmulSpec
from tilewright.backends.kernels.family import Cost
from tilewright.backends.llvm.microkernel import PANEL


def estimate(spec: MatmulSpec, dims: tuple[int, ...]) -> Cost:
    """2 M K N operations; A, packed B, C and full-size extras once."""
    m = dims[0]
    full = sum(e.index == "full" for e in spec.epilogue.extras)
    weights = spec.panels * PANEL * spec.k
    return Cost(2 * m * spec.k * spec.n, 4 * (m * spec.k + weights + (1 + full) * m * spec.n))

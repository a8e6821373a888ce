"""Cost of the f32 matmul on GPUs."""

from __future__ import annotations

from tilewright.backends.cuda import simt
from tilewright.backends.kernels import work
from tilewright.backends.kernels.family import Cost
from tilewright.backends.kernels.simt_matmul.cuda import FEW, SOME
from tilewright.backends.kernels.simt_matmul.spec import SimtMatmulSpec, layout
from tilewright.backends.target import Target


def estimate(spec: SimtMatmulSpec, dims: tuple[int, ...], _target: Target) -> Cost:
    """2 M K N operations; A, packed B, C and full-size extras once."""
    m, weights = dims[0], layout(spec).bytes
    full = work.full_extras(spec.epilogue)
    return Cost(
        flops=2 * m * spec.k * spec.n,
        bytes=4 * (m * spec.k + (1 + full) * m * spec.n) + weights,
        weights=weights,
        epilogue=work.epilogue(spec.epilogue, m * spec.n),
        written=4 * m * spec.n,
        nanoseconds=_nanoseconds(spec, m),
    )


def _nanoseconds(spec: SimtMatmulSpec, m: int) -> int:
    """Few rows take as long as their operations at what was measured on an H200."""
    if m > SOME:
        return simt.nanoseconds(m, spec.n, spec.k)
    return 2 * m * spec.k * spec.n // (9_000 if m <= FEW else 15_000)

"""Cost of the matmul with codes on GPUs."""

from __future__ import annotations

from tilewright.backends.cuda import fewshapes
from tilewright.backends.kernels import work
from tilewright.backends.kernels.coded_mma.spec import PARTS, CodedMmaSpec
from tilewright.backends.kernels.family import Cost
from tilewright.backends.target import Target


def estimate(spec: CodedMmaSpec, dims: tuple[int, ...], _target: Target) -> Cost:
    """2 M K N operations; A, packed B, C and full-size extras once. Many rows read B once for every
    21 of them, from L2."""
    m, weights = dims[0], spec.weights.bytes
    blocks = -(-m // (64 // PARTS))
    full = work.full_extras(spec.epilogue)
    return Cost(
        flops=2 * m * spec.k * spec.n,
        bytes=4 * (m * spec.k + (1 + full) * m * spec.n) + weights,
        unit="bf16_tile",
        issued=2 * (-(-m * PARTS // 8) * 8) * spec.k * spec.weights.panels * 32,
        weights=weights,
        passes=blocks,
        converted=spec.k * spec.weights.panels * 32 * blocks,
        epilogue=work.epilogue(spec.epilogue, m * spec.n),
        written=4 * m * spec.n,
        nanoseconds=fewshapes.nanoseconds(spec.weights, m),
    )

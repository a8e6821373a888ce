"""Cost of the batched f32 matmul."""

from __future__ import annotations

from math import prod

from tilewright.backends.kernels.f32_bmm.spec import BmmSpec
from tilewright.backends.kernels.family import Cost


def estimate(spec: BmmSpec, dims: tuple[int, ...]) -> Cost:
    """2 M K N operations a batch element; each operand once a batch element (an upper bound where
    it is broadcast)."""
    r = spec.batch_rank
    batch, (m, k, n) = prod(dims[:r]), dims[r : r + 3]
    full = sum(e.index == "full" for e in spec.epilogue.extras)
    return Cost(2 * batch * m * k * n, 4 * batch * (m * k + k * n + (1 + full) * m * n))

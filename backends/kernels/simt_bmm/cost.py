"""Cost of the batched f32 matmul on GPUs."""

from __future__ import annotations

from math import prod

from tilewright.backends.cuda import simt
from tilewright.backends.kernels import work
from tilewright.backends.kernels.family import Cost
from tilewright.backends.kernels.simt_bmm.spec import SimtBmmSpec
from tilewright.backends.target import Target


def estimate(spec: SimtBmmSpec, dims: tuple[int, ...], _target: Target) -> Cost:
    """2 M K N operations a batch element; each operand once a batch element (an upper bound where
    it is broadcast)."""
    r = spec.batch_rank
    batch, (m, k, n) = prod(dims[:r]), dims[r : r + 3]
    full = work.full_extras(spec.epilogue)
    return Cost(
        flops=2 * batch * m * k * n,
        bytes=4 * batch * (m * k + k * n + (1 + full) * m * n),
        epilogue=work.epilogue(spec.epilogue, batch * m * n),
        written=4 * batch * m * n,
        nanoseconds=simt.nanoseconds(m, n, k, batch),
    )

"""Cost of the batched matmul in f16 or bf16 on GPUs."""

from __future__ import annotations

from dataclasses import replace
from math import prod

from tilewright.backends.cuda.simt import MULTIPROCESSORS
from tilewright.backends.kernels.family import Cost
from tilewright.backends.kernels.mma_bmm.spec import TILE, MmaBmmSpec
from tilewright.backends.kernels.simt_bmm import cost
from tilewright.backends.target import Target

NANOSECONDS = 11
"""Of one k of a tile for each multiprocessor, measured on an H200."""


def estimate(spec: MmaBmmSpec, dims: tuple[int, ...], target: Target) -> Cost:
    """2 M K N operations a batch element; each operand once a batch element (an upper bound where
    it is broadcast)."""
    r = spec.batch_rank
    batch, (m, k, n) = prod(dims[:r]), dims[r : r + 3]
    tiles = batch * -(-m // TILE) * -(-n // TILE)
    return replace(
        cost.estimate(spec, dims, target),
        unit="f16" if spec.dtype == "f16" else "bf16_tile",
        issued=2 * tiles * TILE * TILE * k,
        converted=2 * tiles * TILE * k,
        nanoseconds=-(-tiles // MULTIPROCESSORS) * k * NANOSECONDS,
    )

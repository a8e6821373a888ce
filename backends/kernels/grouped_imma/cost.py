"""Cost of the matmul of integer weights by rows in 8-bit codes on GPUs."""

from __future__ import annotations

from tilewright.backends.cuda import fewshapes
from tilewright.backends.kernels import work
from tilewright.backends.kernels.family import Cost
from tilewright.backends.kernels.grouped_imma.spec import GroupedImmaSpec
from tilewright.backends.llvm import formats as storage
from tilewright.backends.target import Target

ISSUED = 1.25
"""Instructions of a weight to those of grouped_mma, by machine code."""


def estimate(spec: GroupedImmaSpec, dims: tuple[int, ...], _target: Target) -> Cost:
    """2 M K N operations; A, its codes, packed B, C and full-size extras once. Many rows read B
    once for every 64 of them, from L2."""
    m, weights = dims[0], spec.weights.bytes
    a, c = storage.BYTES[spec.a], storage.BYTES[spec.c]
    full = work.full_extras(spec.epilogue)
    return Cost(
        flops=2 * m * spec.k * spec.n,
        bytes=(2 + a) * m * spec.k + (c + 4 * full) * m * spec.n + weights,
        unit="int8_tile",
        issued=2 * (-(-m // 8) * 8) * spec.k * spec.weights.panels * 32,
        weights=weights,
        passes=-(-m // 64),
        converted=m * spec.k,
        epilogue=work.epilogue(spec.epilogue, m * spec.n),
        written=c * m * spec.n,
        nanoseconds=round(ISSUED * fewshapes.nanoseconds(spec.weights, m)),
    )

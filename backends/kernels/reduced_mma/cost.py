"""Cost of products on tensor cores whose panels are reduced in registers."""

from __future__ import annotations

from dataclasses import replace

from tilewright.backends.kernels.family import Cost
from tilewright.backends.kernels.reduced_mma.spec import ReducedMmaSpec
from tilewright.backends.kernels.row_reduction.cost import steps
from tilewright.backends.target import Target

PICOSECONDS = 14
"""Of an element that a warp reduces: argmax of 65536 columns of K 4096 on an H200 takes 62 us more
than the product does at 64 rows, 225 at 256, 11 at 16."""


def estimate(spec: ReducedMmaSpec, dims: tuple[int, ...], target: Target) -> Cost:
    """That of the product without its result; every element takes part in a reduction of a warp."""
    m, lda, _, *strides = dims
    product = spec.family.cost(spec.product, (m, lda, spec.n, *strides), target)
    parts = 4 * m * spec.parts * spec.reading.words
    return replace(
        product,
        bytes=max(product.bytes - 4 * m * spec.n, 0) + parts,
        epilogue=product.epilogue + steps(spec.reading, m * spec.n),
        written=parts,
        nanoseconds=product.nanoseconds + PICOSECONDS * m * spec.n // 1000,
    )

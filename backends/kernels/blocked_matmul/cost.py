"""Cost of the matmul with factors of blocks."""

from __future__ import annotations

from tilewright.backends.kernels import work
from tilewright.backends.kernels.blocked_matmul.chain import Chain
from tilewright.backends.kernels.family import Cost
from tilewright.backends.llvm import formats
from tilewright.backends.target import Target

MOVED, MIXED = 2, 4
"""Conversions that take as long as putting a number of the middle in its place, or making one of
BLAST: 10 and 20 us for 128 rows of 512."""


def estimate(spec: Chain, dims: tuple[int, ...], target: Target) -> Cost:
    """2 M numbers of factors operations; A, packed factors, C and full extras once. What lies
    between products stays in L1 or L2, as part of what these stream."""
    m, *strides = dims
    p, size = spec.parts, formats.BYTES
    full = work.full_extras(spec.epilogue)
    flops = issued = passes = streamed = converted = epilogue = blocks = 0
    unit = spec.inner.cost(spec.right, (0, spec.width, *strides[1:]), target).unit
    for rows, times in work.row_blocks(m, spec.rows_per_unit):
        left = spec.inner.cost(spec.left, (rows, spec.k, spec.stride), target)
        right = spec.inner.cost(spec.right, (rows, spec.stride, *strides[1:]), target)
        unit = right.unit
        mixed = 2 * rows * p * spec.stride if spec.mixed else 0
        flops += (p * (left.flops + right.flops) + mixed) * times
        issued += p * (left.issued + right.issued) * times
        streamed += p * (left.streamed + right.streamed) * times
        moved = rows * spec.stride * (MIXED if spec.mixed else MOVED)
        converted += (p * (left.converted + right.converted) + moved) * times
        epilogue += p * right.epilogue * times
        blocks += p * (left.blocks + right.blocks) * times
        passes += times
    return Cost(
        flops=flops,
        bytes=size[spec.a] * m * spec.k + (size[spec.c] + 4 * full) * m * spec.n + spec.bytes,
        unit=unit,
        issued=issued,
        weights=spec.bytes,
        passes=passes,
        streamed=streamed,
        converted=converted,
        epilogue=epilogue,
        written=size[spec.c] * m * spec.n,
        blocks=blocks,
    )

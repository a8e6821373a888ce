"""Cost of the 8-bit convolution."""

from __future__ import annotations

from math import prod

from tilewright.backends.kernels import work
from tilewright.backends.kernels.family import Cost
from tilewright.backends.kernels.int8_conv.spec import Int8ConvSpec
from tilewright.backends.kernels.int8_matmul.cost import SIZES, product_work, unit_of
from tilewright.backends.target import Target


def estimate(spec: Int8ConvSpec, dims: tuple[int, ...], target: Target) -> Cost:
    """Two operations a tap and channel; X, Y and packed filters once."""
    r = spec.rank
    pixels = dims[0] * prod(dims[1 + r : 1 + 2 * r])
    weights = spec.matrix.packed_bytes * spec.groups
    results = pixels * spec.out_channels
    each = SIZES[spec.out] + 4 * work.full_extras(spec.epilogue)
    product, passes = work.Work(), 0
    for rows, times in work.row_blocks(pixels, spec.rows_per_unit):
        product += product_work(target, spec.matrix, rows) * (times * spec.groups)
        passes += times
    return Cost(
        flops=2 * results * spec.k // spec.merged,
        bytes=dims[0] * prod(dims[1 : 1 + r]) * spec.channels + each * results + weights,
        unit=unit_of(target, min(pixels, spec.rows_per_unit)),
        issued=product.issued,
        weights=weights,
        passes=passes,
        streamed=product.streamed,
        converted=pixels * spec.k * spec.groups * (1 + (not spec.pointwise)),
        epilogue=work.epilogue(spec.epilogue, results) + results,
        written=SIZES[spec.out] * results,
        blocks=product.blocks,
    )

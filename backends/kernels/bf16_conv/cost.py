"""Cost of the bf16 convolution."""

from __future__ import annotations

from math import prod

from tilewright.backends.kernels import work
from tilewright.backends.kernels.bf16_conv.spec import Bf16ConvSpec
from tilewright.backends.kernels.bf16_matmul.cost import product_work, unit_of
from tilewright.backends.kernels.family import Cost
from tilewright.backends.llvm.bf16_block import STEP
from tilewright.backends.llvm.microkernel import PANEL
from tilewright.backends.target import Target


def estimate(spec: Bf16ConvSpec, dims: tuple[int, ...], target: Target) -> Cost:
    """Two operations a tap, channel and product; X and Y f32, packed weights, once."""
    r = spec.rank
    pixels = dims[0] * prod(dims[1 + r : 1 + 2 * r])
    matrix = spec.matrix
    weights = 2 * spec.groups * spec.panels * PANEL * matrix.planes * matrix.steps * STEP
    values = dims[0] * prod(dims[1 : 1 + r]) * spec.channels
    values += (1 + work.full_extras(spec.epilogue)) * pixels * spec.out_channels
    product, passes = work.Work(), 0
    for rows, times in work.row_blocks(pixels, spec.rows_per_unit):
        product += product_work(target, matrix, rows) * (times * spec.groups)
        passes += times
    gathered = pixels * spec.k * spec.groups
    return Cost(
        flops=2 * pixels * spec.out_channels * spec.k * spec.products,
        bytes=4 * values + weights,
        unit=unit_of(target, min(pixels, spec.rows_per_unit)),
        issued=product.issued,
        weights=weights,
        asked=False,
        passes=passes,
        streamed=product.streamed,
        converted=gathered * (matrix.planes + (not spec.pointwise)),
        epilogue=work.epilogue(spec.epilogue, pixels * spec.out_channels),
        written=4 * pixels * spec.out_channels,
        blocks=product.blocks,
    )

"""Cost of the bf16 convolution for few channels."""

from __future__ import annotations

from math import prod

from tilewright.backends.kernels import work
from tilewright.backends.kernels.bf16_matmul.cost import product_work, unit_of
from tilewright.backends.kernels.bf16_thin_conv.spec import Bf16ThinConvSpec, block_count
from tilewright.backends.kernels.family import Cost, evaluate
from tilewright.backends.llvm.bf16_block import STEP
from tilewright.backends.llvm.microkernel import PANEL
from tilewright.backends.target import Target


def estimate(spec: Bf16ThinConvSpec, dims: tuple[int, ...], target: Target) -> Cost:
    """As bf16_conv: input rows are rounded, then gathered with their zeros, two values a lane."""
    r = spec.rank
    inputs, outputs = dims[1 : 1 + r], dims[1 + r : 1 + 2 * r]
    pixels = dims[0] * prod(outputs)
    matrix = spec.matrix
    weights = 2 * matrix.panels * PANEL * matrix.planes * matrix.steps * STEP
    values = dims[0] * prod(inputs) * spec.channels
    height, width = (1, *outputs)[-2], outputs[-1]
    count = evaluate(block_count(spec), dims)
    product, passes, least = work.Work(), 0, 0
    for rows, times in work.row_blocks(height, -(-height // count)):
        product += product_work(target, matrix, rows * width) * (times * dims[0])
        passes += times * dims[0]
        least = rows * width
    whole = values + (1 + work.full_extras(spec.epilogue)) * pixels * spec.out_channels
    return Cost(
        flops=2 * pixels * spec.out_channels * spec.k * spec.products,
        bytes=4 * whole + weights,
        unit=unit_of(target, least),
        issued=product.issued,
        weights=weights,
        passes=passes,
        streamed=product.streamed,
        converted=(values + pixels * matrix.k // 2) * matrix.planes,
        epilogue=work.epilogue(spec.epilogue, pixels * spec.out_channels),
        written=4 * pixels * spec.out_channels,
        blocks=product.blocks,
    )

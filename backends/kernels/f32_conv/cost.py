"""Cost of the f32 convolution."""

from __future__ import annotations

from math import prod

from tilewright.backends.kernels import work
from tilewright.backends.kernels.f32_conv.spec import ConvSpec
from tilewright.backends.kernels.family import Cost
from tilewright.backends.llvm.microkernel import PANEL
from tilewright.backends.target import Target


def estimate(spec: ConvSpec, dims: tuple[int, ...], target: Target) -> Cost:
    """2 operations a tap, channel and output (padding counted); X, W, Y and full extras once."""
    r = spec.rank
    inputs = dims[0] * prod(dims[1 : 1 + r]) * spec.channels
    pixels = dims[0] * prod(dims[1 + r : 1 + 2 * r])
    outputs = pixels * spec.out_channels
    full = work.full_extras(spec.epilogue)
    product, weights, passes, gathered = work.Work(), spec.out_channels * spec.k, 1, 0
    if spec.depthwise:
        # Two loads for each FMA, weights and pixels.
        product = work.Work(issued=4 * outputs * spec.k, blocks=pixels)
    else:
        passes = 0
        for rows, times in work.row_blocks(pixels, spec.rows_per_unit):
            one = work.f32_product(target, rows, spec.k, spec.group_outputs)
            product += one * (times * spec.groups)
            passes += times
        weights = spec.groups * spec.panels * PANEL * spec.k
        gathered = 0 if spec.pointwise else pixels * spec.k * spec.groups
    return Cost(
        flops=2 * outputs * spec.k,
        bytes=4 * (inputs + weights + (1 + full) * outputs),
        issued=product.issued,
        weights=4 * weights,
        passes=passes,
        streamed=product.streamed,
        converted=gathered,
        epilogue=work.epilogue(spec.epilogue, outputs),
        written=4 * outputs,
        blocks=product.blocks,
    )

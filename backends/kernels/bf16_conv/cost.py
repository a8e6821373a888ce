"""Cost of the bf16 convolution."""

from __future__ import annotations

from math import prod

from tilewright.backends.kernels.bf16_conv.spec import Bf16ConvSpec
from tilewright.backends.kernels.family import Cost
from tilewright.backends.llvm.bf16_block import STEP
from tilewright.backends.llvm.microkernel import PANEL


def estimate(spec: Bf16ConvSpec, dims: tuple[int, ...]) -> Cost:
    """Two operations a tap, channel and product; X and Y f32, packed weights, once."""
    r = spec.rank
    pixels = dims[0] * prod(dims[1 + r : 1 + 2 * r])
    matrix = spec.matrix
    weights = 2 * spec.groups * spec.panels * PANEL * matrix.planes * matrix.steps * STEP
    full = sum(e.index == "full" for e in spec.epilogue.extras)
    values = dims[0] * prod(dims[1 : 1 + r]) * spec.channels
    values += (1 + full) * pixels * spec.out_channels
    flops = 2 * pixels * spec.out_channels * spec.k * spec.products
    return Cost(flops, 4 * values + weights)

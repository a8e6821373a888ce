"""Cost of the f32 convolution."""

from __future__ import annotations

from math import prod

from tilewright.backends.kernels.f32_conv.spec import ConvSpec
from tilewright.backends.kernels.family import Cost


def estimate(spec: ConvSpec, dims: tuple[int, ...]) -> Cost:
    """2 operations a tap, channel and output (padding counted); X, W, Y and full extras once."""
    r = spec.rank
    inputs = dims[0] * prod(dims[1 : 1 + r]) * spec.channels
    outputs = dims[0] * prod(dims[1 + r : 1 + 2 * r]) * spec.out_channels
    weights = spec.out_channels * spec.k
    full = sum(e.index == "full" for e in spec.epilogue.extras)
    return Cost(2 * outputs * spec.k, 4 * (inputs + weights + (1 + full) * outputs))

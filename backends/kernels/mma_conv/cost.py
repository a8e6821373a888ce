"""Cost of the convolution in f16 or bf16 on GPUs."""

from __future__ import annotations

from math import prod

from tilewright.backends.kernels import work
from tilewright.backends.kernels.family import Cost
from tilewright.backends.kernels.mma_conv.spec import MmaConvSpec, layout
from tilewright.backends.target import Target

RATE, LATENCY = 80_000, 3
"""Operations a nanosecond of many pixels, and nanoseconds for two k of few, as on an H200."""


def estimate(spec: MmaConvSpec, dims: tuple[int, ...], _target: Target) -> Cost:
    """2 operations a tap, channel and output (padding counted); X, W, Y and full extras once."""
    r = spec.rank
    inputs = dims[0] * prod(dims[1 : 1 + r]) * spec.channels
    pixels = dims[0] * prod(dims[1 + r : 1 + 2 * r])
    outputs = pixels * spec.out_channels
    full = work.full_extras(spec.epilogue)
    weights = layout(spec).bytes
    return Cost(
        flops=2 * outputs * spec.k,
        bytes=4 * (inputs + (1 + full) * outputs) + weights,
        unit="f16" if spec.dtype == "f16" else "bf16_tile",
        issued=2 * (-(-pixels // 64) * 64) * spec.k * spec.groups * spec.weights.panels * 32,
        weights=weights,
        passes=-(-pixels // 64),
        converted=pixels * spec.k * spec.groups,
        epilogue=work.epilogue(spec.epilogue, outputs),
        written=4 * outputs,
        nanoseconds=max(2 * outputs * spec.k // RATE, LATENCY * spec.k // 2),
    )

"""Cost of the f32 convolution on GPUs."""

from __future__ import annotations

from math import prod

from tilewright.backends.cuda import simt
from tilewright.backends.kernels import work
from tilewright.backends.kernels.f32_conv.spec import layout
from tilewright.backends.kernels.family import Cost
from tilewright.backends.kernels.simt_conv.spec import SimtConvSpec
from tilewright.backends.target import Target


def estimate(spec: SimtConvSpec, dims: tuple[int, ...], _target: Target) -> Cost:
    """2 operations a tap, channel and output (padding counted); X, W, Y and full extras once."""
    r = spec.rank
    inputs = dims[0] * prod(dims[1 : 1 + r]) * spec.channels
    pixels = dims[0] * prod(dims[1 + r : 1 + 2 * r])
    outputs = pixels * spec.out_channels
    nanoseconds = simt.nanoseconds(pixels, spec.group_outputs, spec.k, spec.groups)
    full = work.full_extras(spec.epilogue)
    weights = layout(spec).bytes
    return Cost(
        flops=2 * outputs * spec.k,
        bytes=4 * (inputs + (1 + full) * outputs) + weights,
        weights=weights,
        epilogue=work.epilogue(spec.epilogue, outputs),
        written=4 * outputs,
        nanoseconds=0 if spec.depthwise else nanoseconds,
    )

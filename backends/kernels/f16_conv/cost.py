"""Cost of the f16 convolution."""

from __future__ import annotations

from math import prod

from tilewright.backends.kernels import work
from tilewright.backends.kernels.f16_conv.spec import F16ConvSpec
from tilewright.backends.kernels.f16_matmul import cost as matmul
from tilewright.backends.kernels.family import Cost
from tilewright.backends.target import Target


def estimate(spec: F16ConvSpec, dims: tuple[int, ...], target: Target) -> Cost:
    """Two operations a tap and channel; X and Y f32, packed filters, once."""
    r = spec.rank
    pixels = dims[0] * prod(dims[1 + r : 1 + 2 * r])
    results = pixels * spec.out_channels
    values = dims[0] * prod(dims[1 : 1 + r]) * spec.channels
    values += (1 + work.full_extras(spec.epilogue)) * results
    # The product of one group, as f16_matmul counts it.
    one = matmul.estimate(spec.matrix, (pixels, spec.k, spec.out_channels), target)
    weights = one.weights * spec.groups
    passes = -(-pixels // spec.rows_per_unit)
    rows = one.streamed - one.passes * one.weights
    gathered = pixels * spec.k * spec.groups
    return Cost(
        flops=2 * results * spec.k,
        bytes=4 * values + weights,
        unit=one.unit,
        issued=one.issued * spec.groups,
        weights=weights,
        passes=passes,
        streamed=passes * weights + rows * spec.groups,
        converted=gathered * (bool(spec.chain) + (not spec.pointwise)),
        epilogue=work.epilogue(spec.epilogue, results) + results,
        written=4 * results,
        blocks=one.blocks * spec.groups,
    )

"""Cost of the 8-bit convolution of f32 pixels."""

from __future__ import annotations

from math import prod

from tilewright.backends.kernels import work
from tilewright.backends.kernels.family import Cost, evaluate
from tilewright.backends.kernels.int8_scaled_conv.spec import Int8ScaledConvSpec, seen_lines
from tilewright.backends.kernels.int8_scaled_matmul.cost import (
    BESIDE_TILES,
    product_work,
    unit_of,
)
from tilewright.backends.llvm import formats
from tilewright.backends.target import Target

GATHERED = 4
"""Codes that are copied while one element is converted."""


def estimate(spec: Int8ScaledConvSpec, dims: tuple[int, ...], target: Target) -> Cost:
    """Two operations a tap and channel; X, Y and packed filters once."""
    r = spec.rank
    inputs, outputs = dims[1 : 1 + r], dims[1 + r : 1 + 2 * r]
    pixels = dims[0] * prod(outputs)
    results = pixels * spec.out_channels
    product, passes = work.Work(), 0
    for rows, times in work.row_blocks(pixels, spec.rows_per_unit):
        product += product_work(target, spec.matrix, rows) * times
        passes += times
    each = formats.BYTES[spec.y] + 4 * work.full_extras(spec.epilogue)
    unit = unit_of(target, min(pixels, spec.rows_per_unit))
    seen = passes * evaluate(seen_lines(spec), dims) * prod(inputs[1:]) * spec.channels
    copies = 1 if spec.in_steps else 2
    finished = work.epilogue(spec.epilogue, results) + 5 * results
    return Cost(
        flops=2 * results * spec.k,
        bytes=formats.BYTES[spec.x] * dims[0] * prod(inputs) * spec.channels
        + each * results
        + spec.packed_bytes,
        unit=unit,
        issued=product.issued,
        weights=spec.packed_bytes,
        passes=passes,
        streamed=product.streamed,
        converted=seen + copies * pixels * spec.k // GATHERED,
        epilogue=finished // (BESIDE_TILES if unit == "int8_tile" else 1),
        written=formats.BYTES[spec.y] * results,
        blocks=product.blocks,
    )

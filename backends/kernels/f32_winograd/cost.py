"""Cost of the Winograd convolution."""

from __future__ import annotations

from tilewright.backends.kernels import work
from tilewright.backends.kernels.f32_winograd.spec import MOST_ROWS, POSITIONS, WinogradSpec
from tilewright.backends.kernels.family import Cost
from tilewright.backends.llvm.microkernel import PANEL, widest
from tilewright.backends.target import Target

INPUT_STEPS, OUTPUT_STEPS = 8, 5
"""Loads, additions and stores of the transforms: for an input element of a tile, and for an
element of the sums."""

FEW_TILES = 2 * MOST_ROWS
"""With no more tiles the filters are used faster than they come from beyond L2, as if they were
read twice: 7x7 outputs of 512 channels take 2.45 ms, where the direct sums take 1.8."""


def estimate(spec: WinogradSpec, dims: tuple[int, ...], target: Target) -> Cost:
    """``flops`` are those of the direct convolution."""
    batch, height, breadth, rows, columns = dims[:5]
    pixels = batch * rows * columns
    tiles = batch * -(-rows // 2) * -(-columns // 2)
    weights = 4 * POSITIONS * spec.channels * PANEL * spec.panels
    product, passes = work.Work(), 0
    for size, times in work.row_blocks(tiles, spec.tiles_per_unit):
        for few, count in work.row_blocks(size, widest(target).rows):
            one = work.f32_product(target, few, spec.channels, POSITIONS * spec.panels * PANEL)
            product += one * (times * count)
        passes += times * (2 if size <= FEW_TILES else 1)
    values = batch * height * breadth * spec.channels
    values += (1 + work.full_extras(spec.epilogue)) * pixels * spec.out_channels
    inputs = POSITIONS * tiles * spec.channels * spec.across
    sums = POSITIONS * tiles * spec.panels * PANEL
    return Cost(
        flops=2 * pixels * spec.out_channels * spec.k,
        bytes=4 * values + weights,
        issued=product.issued,
        weights=weights,
        asked=False,
        passes=passes,
        streamed=product.streamed,
        converted=0,
        epilogue=work.epilogue(spec.epilogue, pixels * spec.out_channels)
        + INPUT_STEPS * inputs
        + OUTPUT_STEPS * sums,
        written=4 * pixels * spec.out_channels,
        blocks=product.blocks,
    )

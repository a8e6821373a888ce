"""Cost of the direct bf16 convolution."""

from __future__ import annotations

from math import prod

from tilewright.backends.kernels import work
from tilewright.backends.kernels.bf16_direct_conv.spec import Bf16DirectConvSpec, block_count
from tilewright.backends.kernels.family import Cost, evaluate
from tilewright.backends.llvm import formats
from tilewright.backends.llvm.amx import ROWS
from tilewright.backends.llvm.bf16_block import STEP
from tilewright.backends.llvm.microkernel import PANEL
from tilewright.backends.target import Target


def estimate(spec: Bf16DirectConvSpec, dims: tuple[int, ...], target: Target) -> Cost:
    """As bf16_conv, but pixels are converted once, and those between rows are multiplied too."""
    r = spec.rank
    inputs, outputs = dims[1 : 1 + r], dims[1 + r : 1 + 2 * r]
    pixels = dims[0] * prod(outputs)
    matrix = spec.matrix
    weights = 2 * spec.groups * spec.panels * PANEL * matrix.planes * matrix.steps * STEP
    values = formats.BYTES[spec.x] * dims[0] * prod(inputs) * spec.channels
    each = formats.BYTES[spec.y] + 4 * work.full_extras(spec.epilogue)
    values += each * pixels * spec.out_channels
    down, across = spec.reach
    height, width = (1, *outputs)[-2], outputs[-1] + across
    count = evaluate(block_count(spec), dims)
    product, passes, converted = work.Work(), 0, 0
    for rows, times in work.row_blocks(height, -(-height // count)):
        tiles = -(-(rows * width - across) // ROWS)
        pairs = -(-tiles // 2)
        issued = 2 * tiles * ROWS * spec.k * PANEL * spec.panels * spec.products
        own = 2 * matrix.planes * (rows + down) * width * spec.channels
        # A panel beyond L1 comes from L2 for every pair of tiles.
        panel = 2 * PANEL * spec.k * matrix.planes
        again = pairs if panel > target.l1_kib << 10 else 1
        streamed = spec.panels * (panel * again + own)
        times *= dims[0]
        product += work.Work(issued, streamed, pairs * spec.panels) * (times * spec.groups)
        passes += times
        converted += (rows + down) * width * len(spec.phases) * spec.channels * times
    return Cost(
        flops=2 * pixels * spec.out_channels * spec.k * spec.products,
        bytes=values + weights,
        unit="bf16_tile",
        issued=product.issued,
        weights=weights,
        asked=False,
        passes=passes,
        streamed=product.streamed,
        # Copied at half the cost where they are bf16 already.
        converted=converted * matrix.planes * formats.BYTES[spec.x] // 4,
        epilogue=work.epilogue(spec.epilogue, pixels * spec.out_channels),
        written=formats.BYTES[spec.y] * pixels * spec.out_channels,
        blocks=product.blocks,
    )

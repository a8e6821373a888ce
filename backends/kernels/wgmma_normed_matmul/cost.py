"""Cost of the product whose rows are normalized."""

from __future__ import annotations

from dataclasses import replace

from tilewright.backends.kernels.family import Cost
from tilewright.backends.kernels.wgmma_matmul import cost as plain
from tilewright.backends.kernels.wgmma_matmul.spec import DEPTH
from tilewright.backends.kernels.wgmma_matmul.tiles import BASE
from tilewright.backends.kernels.wgmma_normed_matmul import tiles
from tilewright.backends.kernels.wgmma_normed_matmul.spec import WgmmaNormedMatmulSpec
from tilewright.backends.target import Target


def estimate(spec: WgmmaNormedMatmulSpec, dims: tuple[int, ...], target: Target) -> Cost:
    """That of the product and of the elementwise work of the norm; issued are operations of whole
    tiles of clusters. What tiles draw from the common cache is in their times."""
    m, tile, product = dims[0], spec.tile, spec.product
    cost = plain.estimate(product, dims, target)
    cost = replace(
        cost,
        epilogue=cost.epilogue + spec.norm.operations * m * product.n,
        nanoseconds=round(1e3 * (tiles.microseconds(spec, m) - BASE)),
    )
    if tile is None:
        return cost
    count = -(-m // tile.rows)
    padded = tile.rows * spec.across * tile.columns
    issued = 2 * count * padded * product.steps * DEPTH * product.products
    return replace(cost, issued=issued, blocks=count * spec.blocks)

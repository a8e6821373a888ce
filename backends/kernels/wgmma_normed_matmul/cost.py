"""Cost of the product whose rows are normalized."""

from __future__ import annotations

from tilewright.backends.kernels import work
from tilewright.backends.kernels.family import Cost
from tilewright.backends.kernels.wgmma_matmul.spec import BYTES, DEPTH
from tilewright.backends.kernels.wgmma_matmul.tiles import BASE
from tilewright.backends.kernels.wgmma_normed_matmul import tiles
from tilewright.backends.kernels.wgmma_normed_matmul.spec import WgmmaNormedMatmulSpec
from tilewright.backends.target import Target


def estimate(spec: WgmmaNormedMatmulSpec, dims: tuple[int, ...], _target: Target) -> Cost:
    """2 M K N operations for each product; A, C, packed B and full extras once. Issued: those of
    whole tiles. What tiles draw from the common cache is in their times."""
    m, tile, product = dims[0], spec.tile, spec.product
    count = -(-m // tile.rows)
    full = work.full_extras(product.epilogue)
    weights = 2 * product.planes * product.n * product.row
    padded = tile.rows * spec.across * tile.columns
    return Cost(
        flops=2 * m * product.k * product.n * product.products,
        bytes=BYTES[product.a] * m * product.k
        + (BYTES[product.c] + 4 * full) * m * product.n
        + weights,
        unit="bf16_tile" if product.element == "bf16" else "f16",
        issued=2 * count * padded * product.steps * DEPTH * product.products,
        weights=weights,
        converted=0 if product.a == product.element else m * product.k * product.planes,
        epilogue=work.epilogue(product.epilogue, m * product.n)
        + spec.norm.operations * m * product.n,
        written=BYTES[product.c] * m * product.n,
        blocks=count * spec.blocks,
        nanoseconds=round(1e3 * (tiles.microseconds(spec, m) - BASE)),
    )

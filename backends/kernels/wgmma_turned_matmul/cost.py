"""Cost of the product of few rows whose columns are the left operand."""

from __future__ import annotations

from tilewright.backends.kernels import work
from tilewright.backends.kernels.family import Cost
from tilewright.backends.kernels.wgmma_matmul.spec import BYTES, DEPTH
from tilewright.backends.kernels.wgmma_matmul.tiles import BASE
from tilewright.backends.kernels.wgmma_turned_matmul import tiles
from tilewright.backends.kernels.wgmma_turned_matmul.spec import WgmmaTurnedMatmulSpec
from tilewright.backends.target import Target


def estimate(spec: WgmmaTurnedMatmulSpec, dims: tuple[int, ...], _target: Target) -> Cost:
    """2 M K N operations; A, C, packed B and full extras once. Issued: those of whole tiles. What
    tiles draw from the common cache is in their times."""
    m, tile, product = dims[0], spec.tile, spec.product
    count = -(-m // tile.rows) * spec.across
    full = work.full_extras(product.epilogue)
    weights = 2 * product.n * product.row
    return Cost(
        flops=2 * m * product.k * product.n,
        bytes=BYTES[product.a] * m * product.k
        + (BYTES[product.c] + 4 * full) * m * product.n
        + weights,
        unit="bf16_tile" if product.element == "bf16" else "f16",
        issued=2 * count * tile.rows * tile.columns * product.steps * DEPTH,
        weights=weights,
        passes=1,
        converted=0 if product.a == product.element else m * product.k,
        epilogue=work.epilogue(product.epilogue, m * product.n),
        written=BYTES[product.c] * m * product.n,
        blocks=count * tile.split,
        nanoseconds=round(1e3 * (tiles.microseconds(spec, m) - BASE)),
    )

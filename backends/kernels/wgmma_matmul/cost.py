"""Cost of the product on Hopper's tensor cores."""

from __future__ import annotations

from tilewright.backends.cuda.activations import operations
from tilewright.backends.kernels import work
from tilewright.backends.kernels.family import Cost
from tilewright.backends.kernels.wgmma_matmul import tiles
from tilewright.backends.kernels.wgmma_matmul.spec import BYTES, DEPTH, WgmmaMatmulSpec
from tilewright.backends.target import Target


def estimate(spec: WgmmaMatmulSpec, dims: tuple[int, ...], _target: Target) -> Cost:
    """2 M K N operations for each product; A, C, packed B and full extras once. Issued: those of
    whole tiles. What tiles draw from the common cache is in their measured times."""
    m, tile = dims[0], spec.tile
    tall = tile.rows * tile.cluster
    count = -(-m // tall) * spec.across
    full = work.full_extras(spec.epilogue)
    weights = 2 * spec.planes * spec.n * spec.row
    return Cost(
        flops=2 * m * spec.k * spec.n * spec.products,
        bytes=BYTES[spec.a] * m * spec.k + (BYTES[spec.c] + 4 * full) * m * spec.n + weights,
        unit="bf16_tile" if spec.element == "bf16" else "f16",
        issued=2 * count * tall * tile.columns * spec.steps * DEPTH * spec.products,
        weights=weights,
        passes=1,
        converted=0 if spec.a == spec.element else m * spec.k * spec.planes,
        epilogue=operations(spec.epilogue, spec.c != "f32") * m * spec.n,
        written=BYTES[spec.c] * m * spec.n,
        blocks=count * tile.cluster * tile.split,
        nanoseconds=round(1e3 * (tiles.microseconds(spec, m) - tiles.BASE)),
    )

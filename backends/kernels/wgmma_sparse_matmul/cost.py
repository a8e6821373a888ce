"""Cost of the product with 2:4 weights on Hopper's tensor cores."""

from __future__ import annotations

from tilewright.backends.cuda.activations import operations
from tilewright.backends.kernels import work
from tilewright.backends.kernels.family import Cost
from tilewright.backends.kernels.wgmma_matmul.tiles import BASE
from tilewright.backends.kernels.wgmma_sparse_matmul import tiles
from tilewright.backends.kernels.wgmma_sparse_matmul.spec import (
    BYTES,
    DEPTH,
    WgmmaSparseMatmulSpec,
)
from tilewright.backends.target import Target


def estimate(spec: WgmmaSparseMatmulSpec, dims: tuple[int, ...], _target: Target) -> Cost:
    """2 M K N operations, those that are left out included; A, C, packed B and full extras once.
    Issued: half of those of whole tiles. What tiles draw from the common cache is in their measured
    times."""
    m, tile = dims[0], spec.tile
    count = -(-m // tile.rows) * spec.down * tile.cluster
    full = work.full_extras(spec.epilogue)
    return Cost(
        flops=2 * m * spec.k * spec.n,
        bytes=BYTES[spec.a] * m * spec.k
        + (BYTES[spec.c] + 4 * full) * m * spec.n
        + spec.packed_bytes,
        unit="bf16_tile" if spec.element == "bf16" else "f16",
        issued=count * tile.rows * tile.columns * spec.steps * DEPTH,
        weights=spec.packed_bytes,
        converted=0 if spec.a == spec.element else m * spec.k,
        epilogue=operations(spec.epilogue, spec.c != "f32") * m * spec.n,
        written=BYTES[spec.c] * m * spec.n,
        blocks=count * tile.split,
        nanoseconds=round(1e3 * (tiles.microseconds(spec, m) - BASE)),
    )

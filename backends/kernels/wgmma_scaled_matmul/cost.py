"""Cost of the product of 8-bit rows and columns on Hopper's tensor cores."""

from __future__ import annotations

from tilewright.backends.cuda.activations import operations
from tilewright.backends.kernels import work
from tilewright.backends.kernels.family import Cost
from tilewright.backends.kernels.wgmma_scaled_matmul.spec import DEPTH, WgmmaScaledMatmulSpec
from tilewright.backends.llvm import formats as storage
from tilewright.backends.target import Target


def estimate(spec: WgmmaScaledMatmulSpec, dims: tuple[int, ...], _target: Target) -> Cost:
    """2 M K N operations; A, its codes, C, packed B and full extras once. Issued: those of whole
    tiles, and as many steps more as the ring has, in which a tile begins and ends."""
    m, tile = dims[0], spec.tile
    a, c = storage.BYTES[spec.a], storage.BYTES[spec.c]
    count = -(-m // tile.rows) * spec.across
    full = work.full_extras(spec.epilogue)
    return Cost(
        flops=2 * m * spec.k * spec.n,
        bytes=(2 + a) * m * spec.k + (c + 4 * full) * m * spec.n + spec.packed_bytes,
        unit="int8_tile",
        issued=2 * count * tile.rows * tile.columns * (spec.steps + tile.stages) * DEPTH,
        weights=spec.packed_bytes,
        streamed=count * spec.steps * (tile.rows + tile.columns) * DEPTH,
        converted=m * spec.k,
        epilogue=operations(spec.epilogue, spec.c == "bf16") * m * spec.n,
        written=c * m * spec.n,
        blocks=count,
    )

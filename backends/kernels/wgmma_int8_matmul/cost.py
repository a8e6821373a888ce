"""Cost of the 8-bit product on Hopper's tensor cores."""

from __future__ import annotations

from tilewright.backends.kernels import work
from tilewright.backends.kernels.family import Cost
from tilewright.backends.kernels.wgmma_int8_matmul.spec import DEPTH, WgmmaInt8MatmulSpec
from tilewright.backends.target import Target

BYTES = {"u8": 1, "s8": 1, "f32_tensor": 4, "f32": 4, "i32": 4}


def estimate(spec: WgmmaInt8MatmulSpec, dims: tuple[int, ...], _target: Target) -> Cost:
    """2 M K N operations; A, C, packed B and full extras once. Issued: those of whole tiles, and as
    many steps more as the ring has, in which a tile begins and ends."""
    m, tile = dims[0], spec.tile
    count = -(-m // tile.rows) * spec.across
    full = work.full_extras(spec.epilogue)
    weights = spec.n * spec.row
    steps = spec.steps + tile.stages
    return Cost(
        flops=2 * m * spec.k * spec.n,
        bytes=BYTES[spec.a] * m * spec.k + (BYTES[spec.out] + 4 * full) * m * spec.n + weights,
        unit="int8_tile",
        issued=2 * count * tile.rows * tile.columns * steps * DEPTH,
        weights=weights,
        streamed=count * spec.steps * (tile.rows + tile.columns) * DEPTH,
        converted=m * spec.k if spec.a == "f32_tensor" else 0,
        epilogue=work.epilogue(spec.epilogue, m * spec.n),
        written=BYTES[spec.out] * m * spec.n,
        blocks=count,
    )

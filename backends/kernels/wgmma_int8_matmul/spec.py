"""Spec of the 8-bit product on Hopper's tensor cores."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from tilewright.backends.kernels.family import Layout
from tilewright.backends.kernels.int8_matmul import IntegerMatmulTask
from tilewright.backends.kernels.wgmma_matmul.spec import Tile
from tilewright.backends.llvm.epilogue import IDENTITY, Epilogue
from tilewright.backends.target import Target

DEPTH = 128
"""Elements of K in a step: a row of 128 bytes."""

SMALL = ("u8", "s8")
OUTS = ("i32", "f32", *SMALL)

TILES = (
    Tile(128, 128, 6, 2),
    Tile(128, 192, 5, 2),
    Tile(64, 128, 8, 2, together=False),
    Tile(64, 64, 8, 1),
    Tile(64, 32, 8, 1),
)
"""The first one for anything."""


@dataclass(frozen=True)
class WgmmaInt8MatmulSpec:
    """C[M, N] = epilogue(A[M, K] x B[K, N]), 8-bit operands, sums in i32 modulo 2**32.

    Args, dims: as `int8_matmul.Int8MatmulSpec`, for B without zero points. ``a``: u8, s8 or
    ``f32_tensor``, f32 that is made u8 first with a scale and a zero point. ``out``: type of C.
    """

    k: int
    n: int
    a: str = "u8"
    b: str = "s8"
    out: str = "i32"
    epilogue: Epilogue = IDENTITY
    tile: Tile = TILES[0]

    def __post_init__(self) -> None:
        if self.a not in (*SMALL, "f32_tensor") or self.b not in SMALL or self.out not in OUTS:
            raise ValueError(f"no 8-bit product of {self.a} and {self.b} as {self.out}")
        if not self.k or not self.n:
            raise ValueError("K and N must not be 0")
        if self.tile.split > 1:
            raise ValueError("8-bit products take all of K at once")

    @property
    def element(self) -> str:
        """Of A as it is multiplied."""
        return "u8" if self.a == "f32_tensor" else self.a

    @property
    def given(self) -> int:
        """Args before the epilogue's extras."""
        return 4 if self.a == "f32_tensor" else 2

    @property
    def steps(self) -> int:
        """Of K."""
        return -(-self.k // DEPTH)

    @property
    def row(self) -> int:
        """Bytes of a packed row: K filled up to 16."""
        return -(-self.k // 16) * 16

    @property
    def across(self) -> int:
        """Tiles beside each other."""
        return -(-self.n // self.tile.columns)


def units(spec: WgmmaInt8MatmulSpec) -> str:
    """Tiles."""
    return f"ceildiv(p0, {spec.tile.rows}) * {spec.across}"


def scratch_bytes(_spec: WgmmaInt8MatmulSpec) -> str:
    """None on a CPU: a GPU kernel says its workspace itself."""
    return "0"


def candidates(task: Any, _target: Target) -> tuple[WgmmaInt8MatmulSpec, ...]:
    """The one way."""
    if not isinstance(task, IntegerMatmulTask) or not task.k or not task.n:
        return ()
    return (WgmmaInt8MatmulSpec(task.k, task.n, task.a, task.b, task.out, task.epilogue),)


def variants(spec: WgmmaInt8MatmulSpec, _target: Target) -> tuple[WgmmaInt8MatmulSpec, ...]:
    """With every tile that is not far too wide."""
    fitting = [t for t in TILES if t.columns < 2 * spec.n or t == TILES[-1]]
    return tuple(replace(spec, tile=tile) for tile in dict.fromkeys((spec.tile, *fitting)))


def layout(spec: WgmmaInt8MatmulSpec) -> Layout:
    """Of packed B."""
    return Layout(f"{spec.b} columns of {spec.row}", spec.n * spec.row)

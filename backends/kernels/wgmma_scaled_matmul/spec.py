"""Spec of the product of 8-bit rows and columns with scales on Hopper's tensor cores."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from tilewright.backends.kernels.family import Layout
from tilewright.backends.kernels.tasks import MatmulTask
from tilewright.backends.kernels.wgmma_matmul.spec import Tile
from tilewright.backends.llvm import formats as storage
from tilewright.backends.llvm.epilogue import IDENTITY, Epilogue
from tilewright.backends.target import Target
from tilewright.compiler.formats import named
from tilewright.compiler.formats.format import WeightFormat

DEPTH = 128
"""Elements of K in a step: a row of 128 bytes. Sums of fp8 products are added up in f32 after each,
as tensor cores keep 14 bits of them (DeepSeek-V3, arXiv 2412.19437, section 3.3.2)."""

ELEMENTS = {"w8a8-sym": "s8", "f8e4m3a8e4m3": "e4m3"}
"""Weight formats and what is multiplied."""

TILES = (
    Tile(128, 128, 6, 2),
    Tile(64, 128, 8, 1),
    Tile(64, 64, 8, 1),
    Tile(64, 32, 8, 1),
)
"""The first one for anything."""


@dataclass(frozen=True)
class WgmmaScaledMatmulSpec:
    """C[M, N] = epilogue(A[M, K] x B[K, N]), rows of A quantized with a scale each, columns of B in
    ``form``, a name of ELEMENTS.

    Args: A, packed B, the epilogue's extras, then C.
    Dims: p0 = M, p1 = row stride of A, p2 = row stride of C (elements), then one row stride for
    each ``col`` and ``full`` extra in order. ``a``, ``c``: formats of A and C in memory.
    """

    k: int
    n: int
    form: str
    epilogue: Epilogue = IDENTITY
    a: str = storage.F32_FORMAT
    c: str = storage.F32_FORMAT
    tile: Tile = TILES[0]

    def __post_init__(self) -> None:
        storage.check(self.a, self.c)
        if self.form not in ELEMENTS:
            raise ValueError(f"no 8-bit product for {self.form}: expected {', '.join(ELEMENTS)}")
        if not self.k or not self.n:
            raise ValueError("K and N must not be 0")
        if self.tile not in TILES:
            raise ValueError(f"no 8-bit product with scales by {self.tile}")

    @property
    def format(self) -> WeightFormat:
        """Of B."""
        return named(self.form)

    @property
    def element(self) -> str:
        return ELEMENTS[self.form]

    @property
    def steps(self) -> int:
        """Of K."""
        return -(-self.k // DEPTH)

    @property
    def row(self) -> int:
        """Bytes of a packed row: K filled up to 16."""
        return -(-self.k // 16) * 16

    @property
    def scales_at(self) -> int:
        """Where the scales of columns begin."""
        return self.n * self.row

    @property
    def packed_bytes(self) -> int:
        return self.scales_at + 4 * self.n

    @property
    def across(self) -> int:
        """Tiles beside each other."""
        return -(-self.n // self.tile.columns)


def units(spec: WgmmaScaledMatmulSpec) -> str:
    """Tiles."""
    return f"ceildiv(p0, {spec.tile.rows}) * {spec.across}"


def scratch_bytes(_spec: WgmmaScaledMatmulSpec) -> str:
    """None on a CPU: a GPU kernel says its workspace itself."""
    return "0"


def candidates(task: Any, _target: Target) -> tuple[WgmmaScaledMatmulSpec, ...]:
    """One a format."""
    if not isinstance(task, MatmulTask) or not task.k or not task.n:
        return ()
    return tuple(WgmmaScaledMatmulSpec(task.k, task.n, form, task.epilogue) for form in ELEMENTS)


def variants(spec: WgmmaScaledMatmulSpec, _target: Target) -> tuple[WgmmaScaledMatmulSpec, ...]:
    """With every tile that is not far too wide."""
    fitting = [t for t in TILES if t.columns < 2 * spec.n or t == TILES[-1]]
    return tuple(replace(spec, tile=tile) for tile in dict.fromkeys((spec.tile, *fitting)))


def stored(
    spec: WgmmaScaledMatmulSpec, operands: tuple[str, ...], result: str
) -> WgmmaScaledMatmulSpec | None:
    """The same with A and C in these formats: 8 bits are the coarser rounding by far."""
    known = {operands[0], result} <= {*storage.FORMATS}
    return replace(spec, a=operands[0], c=result) if known else None


def name(spec: WgmmaScaledMatmulSpec) -> str:
    """Name of the weight format."""
    return spec.form


def layout(spec: WgmmaScaledMatmulSpec) -> Layout:
    """Of packed B."""
    return Layout(f"{spec.element} columns of {spec.row} with scales", spec.packed_bytes)

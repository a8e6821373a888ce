"""Spec of the f32 matmul with constant B, and its division into units."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from tilewright.backends.kernels.family import Layout
from tilewright.backends.kernels.tasks import MatmulTask
from tilewright.backends.llvm.epilogue import IDENTITY, Epilogue
from tilewright.backends.llvm.gemm import TILE_BYTES
from tilewright.backends.llvm.microkernel import CHAIN, PANEL
from tilewright.backends.target import Target

LAYOUT = "f32 panels of 32 columns"


WHOLE = 768
"""Up to this many k are not sliced: rows of A stay in L2 for all panels of a unit."""

SLICE = 640
"""Most k of one slice of a longer sum."""

SHORT = 128
"""Up to this many k the rows of a unit are few enough for their A to stay in L1."""

_L1_FLOATS, _L2_FLOATS = 1 << 12, 1 << 16
"""What A of a unit takes of L1 then, and the most that B, which every unit reads, takes of L2."""


@dataclass(frozen=True)
class Tile:
    """Sizes of blocks, none of which changes packed B; 0: by the shape.

    ``depth``: k of one slice, a multiple of microkernel.CHAIN. ``panels``, ``rows``: of one unit;
    at least 14 rows.
    """

    depth: int = 0
    panels: int = 0
    rows: int = 0


@dataclass(frozen=True)
class MatmulSpec:
    """C[M, N] = epilogue(A[M, K] B[K, N]), f32.

    Args: A, packed B, the epilogue's extras, then C.
    Dims: p0 = M, p1 = row stride of A, p2 = row stride of C (elements), then one row stride for
    each ``col`` and ``full`` extra in order. Columns of A and C are contiguous.
    Leading dimensions of a contiguous A are folded into M by the caller.
    """

    k: int
    n: int
    epilogue: Epilogue = IDENTITY
    tile: Tile = Tile()

    @property
    def panels(self) -> int:
        return -(-self.n // PANEL)

    @property
    def panels_per_unit(self) -> int:
        """As many as still give two threads even work in at least four units."""
        if self.tile.panels:
            return self.tile.panels
        for width in (8, 4, 6, 3, 2):
            count = -(-self.panels // width)
            busier = min(-(-count // 2) * width, self.panels)
            if count >= 4 and busier <= 0.525 * self.panels:
                return width
        return 1

    @property
    def rows_per_unit(self) -> int:
        """At most this many rows a unit: a slice of their A keeps to half of a 1 MiB L2.

        In L1 instead, short sums run 2 to 4 % faster (3136 rows by K = 64 to 128).
        """
        if self.tile.rows:
            return self.tile.rows
        depth = max(self.depth, 1)
        short = depth <= SHORT and depth * PANEL * self.panels <= _L2_FLOATS
        return max(14, min(224, (_L1_FLOATS if short else 1 << 17) // depth // 14 * 14))

    @property
    def depth(self) -> int:
        """k of one slice. In longer sums of many rows a panel of B, and A between two panels,
        would not stay in the caches: 128 x 3072 x 768 runs at 155 GFLOP/s instead of 137."""
        if self.tile.depth:
            return self.tile.depth
        if self.k <= WHOLE:
            return self.k
        return _chains(-(-self.k // -(-self.k // SLICE)))

    @property
    def sliced(self) -> bool:
        return self.depth < self.k


def units(spec: MatmulSpec) -> str:
    """Number of work units, a formula over the dims."""
    across = -(-spec.panels // spec.panels_per_unit)
    return f"ceildiv(p0, {spec.rows_per_unit}) * {across}"


def scratch_bytes(spec: MatmulSpec) -> str:
    """Bytes of scratch a thread needs, a formula over the dims."""
    if not spec.sliced:
        return str(TILE_BYTES)
    return f"{TILE_BYTES} + min(p0, {spec.rows_per_unit}) * {4 * PANEL * spec.panels_per_unit}"


def variants(spec: MatmulSpec, _target: Target) -> tuple[MatmulSpec, ...]:
    """The same product in other blocks: unsliced, fewer or more panels a unit, fewer rows.

    Depths between 256 and 768 are within 2 % of each other on a Sapphire Rapids.
    """
    tiles = [Tile(), Tile(depth=_chains(spec.k)), Tile(rows=112)]
    tiles += [Tile(panels=p) for p in (2, 4, 12) if p <= spec.panels]
    seen: dict[tuple[int, int, int], MatmulSpec] = {}
    for tile in (spec.tile, *tiles):
        made = replace(spec, tile=tile)
        sizes = (min(made.depth, made.k), made.panels_per_unit, made.rows_per_unit)
        seen.setdefault(sizes, made)
    return tuple(seen.values())


def _chains(k: int) -> int:
    """``k`` rounded up to whole chains."""
    return -(-k // CHAIN) * CHAIN


def candidates(task: Any, _target: Target) -> tuple[MatmulSpec, ...]:
    """The spec of a matmul with constant B."""
    return (MatmulSpec(task.k, task.n, task.epilogue),) if isinstance(task, MatmulTask) else ()


def layout(spec: MatmulSpec) -> Layout:
    """Of packed B."""
    return Layout(LAYOUT, 4 * spec.panels * PANEL * spec.k)


def strips(spec: MatmulSpec) -> int:
    """Panels follow each other."""
    return spec.rows_per_unit

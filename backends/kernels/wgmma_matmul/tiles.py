"""Which tiles there are, and how long launches take with each: fitted to measured times.

    t = BASE + waves * (steps * step + tile + elements * epilogue) + parts

``waves``: tiles that a multiprocessor has one after the other; ``steps`` of 64 in K of a part. A
step takes the time measured with few blocks, or what the bandwidth of the common cache or the rate
of all tensor cores together allow, whichever is more; together the bytes of a launch that exceeds
the cache take at least their time in memory. ``epilogue``: what reading whole matrices and
writing f32 cost beyond the epilogue's arithmetic. ``parts``: adding up parts of K.

Fitted to 672 launches (bf16, an H200, 46 shapes of {64, ..., 16384}^3) in log space: the root mean
square of the error is 12 %, and the tile with the smallest estimate is 2 % behind the best one.
Beginnings and ends of large tiles, and the epilogue: to 125 launches of BERT's and MiniLM's four
products for 32 x 128 rows with their epilogues (an H200, operands that rotate through 200 MB); the
tile with the smallest estimate is the best one or up to 4 % behind it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache

from tilewright.backends.kernels import work
from tilewright.backends.kernels.wgmma_matmul.spec import (
    BYTES,
    CLUSTER,
    DEPTH,
    Tile,
    WgmmaMatmulSpec,
)
from tilewright.backends.kernels.wgmma_matmul.staged import staged
from tilewright.backends.target import Target

MULTIPROCESSORS = 132
BASE = 1.3
"""Microseconds of a launch in a graph."""
CACHE = 16.3e6
MEMORY = 3.3e6
"""Bytes a microsecond that all multiprocessors draw."""
CACHED = 50e6
"""Bytes beyond which a launch is bound by memory."""
RATE = 1.05e9
"""Operations a microsecond of all tensor cores."""
REDUCE, REDUCED = 1.9, 2.7e6
"""Microseconds of adding up parts in a launch of its own, and bytes a microsecond."""
WITHIN, PART = 1.2, 0.2
"""Microseconds of adding up parts within a cluster, and for each of them, in graphs of encoders:
128 x 1536 x 384 takes 4.8 there, alone 3.5."""
CLUSTERS = {2: 132, 4: 120, 8: 120}
"""Blocks that run at once in clusters of so many."""
MATRIX, MATRIX_IN_TURN, FULL = 0.025e-3, 0.047e-3, 0.1e-3
"""Microseconds of an element of a tile: for each byte of matrices that the epilogue reads, where
groups share tiles and where they take turns (a group keeps its turn until they are there), and for
results in f32 rather than 16 bits."""
APART = 0.1e-3
"""Of an element that has a bias or matrix which is not brought ahead."""
CONVERT, CONVERTED = 1.2, 3.0e6
"""Microseconds of converting A first, and bytes a microsecond."""


@dataclass(frozen=True)
class Row:
    """A tile, and microseconds of a step and of its beginning and end."""

    tile: Tile
    step: float
    whole: float


MEASURED = {
    1: (
        Row(Tile(128, 256, 4, 2), 0.588, 2.36),
        Row(Tile(128, 256, 4, 2, cluster=2), 0.635, 2.20),
        Row(Tile(128, 192, 5, 2), 0.431, 2.11),
        Row(Tile(64, 256, 5, 2, together=False), 0.311, 0.85),
        Row(Tile(64, 256, 5, 2, together=False, cluster=2), 0.329, 1.10),
        Row(Tile(128, 128, 6, 2), 0.292, 1.30),
        Row(Tile(128, 128, 6, 2, together=False), 0.293, 0.92),
        Row(Tile(64, 192, 6, 2, together=False), 0.214, 0.64),
        Row(Tile(128, 96, 7, 2), 0.222, 1.09),
        Row(Tile(128, 96, 7, 2, together=False), 0.215, 0.76),
        Row(Tile(64, 128, 8, 2, together=False), 0.171, 0.45),
        Row(Tile(64, 128, 8, 1), 0.164, 0.66),
        Row(Tile(128, 64, 8, 2), 0.187, 0.51),
        Row(Tile(64, 64, 8, 1), 0.141, 0.36),
        Row(Tile(64, 32, 8, 1), 0.137, 0.10),
    ),
    3: (
        Row(Tile(128, 128, 3, 2), 0.86, 1.6),
        Row(Tile(128, 64, 4, 2), 0.43, 1.0),
        Row(Tile(64, 64, 6, 1), 0.35, 0.8),
        Row(Tile(64, 32, 8, 1), 0.28, 0.5),
    ),
    6: (
        Row(Tile(128, 128, 2, 2), 1.73, 1.6),
        Row(Tile(128, 64, 2, 2), 0.89, 1.0),
        Row(Tile(64, 64, 4, 1), 0.58, 0.8),
        Row(Tile(64, 32, 5, 1), 0.45, 0.5),
    ),
}
"""Number of products -> tiles, the first one for anything."""

SPLITS = (2, 4, 8, 16)
LEAST_STEPS = 4
"""Of a part of K."""


def variants(spec: WgmmaMatmulSpec, _target: Target) -> tuple[WgmmaMatmulSpec, ...]:
    """With every tile that some number of rows may be fastest with."""
    tiles = dict.fromkeys((spec.tile, *_tiles(spec)))
    return tuple(replace(spec, tile=tile) for tile in tiles)


def _tiles(spec: WgmmaMatmulSpec) -> Iterator[Tile]:
    narrow = min(row.tile.columns for row in MEASURED[spec.products])
    for row in MEASURED[spec.products]:
        tile = row.tile
        if tile.columns >= 2 * spec.n and tile.columns > narrow:
            continue
        yield _short(tile, spec.steps)
        across = -(-spec.n // tile.columns)
        for split in SPLITS:
            if split * LEAST_STEPS > spec.steps or across * split > 2 * MULTIPROCESSORS:
                break
            part = _short(replace(tile, split=split), -(-spec.steps // split))
            yield part
            small = tile.rows * tile.columns <= 128 * 64
            if small and tile.together and split <= CLUSTER and tile.rows % split == 0:
                yield replace(part, within=True)


def _short(tile: Tile, steps: int) -> Tile:
    """A small one with hardly more stages than steps: with less shared memory the next launch finds
    room earlier. Large ones bring the next tile's operands ahead."""
    if tile.rows * tile.columns > 128 * 64:
        return tile
    return replace(tile, stages=min(tile.stages, max(4, steps)))


def _key(products: int, tile: Tile) -> tuple[int, ...]:
    return products, tile.rows, tile.columns, tile.groups, tile.together, tile.cluster


@cache
def _rows() -> dict[tuple[int, ...], Row]:
    return {_key(p, row.tile): row for p, rows in MEASURED.items() for row in rows}


def microseconds(spec: WgmmaMatmulSpec, m: int) -> float:
    """Of a launch with ``m`` rows, without the arithmetic of the epilogue."""
    tile = spec.tile
    row = _rows().get(_key(spec.products, tile))
    if row is None:
        row = _like(spec)
    tiles = -(-m // (tile.rows * tile.cluster)) * tile.cluster * spec.across * tile.split
    at_once = CLUSTERS[tile.split] if tile.within else MULTIPROCESSORS
    busy = min(tiles, at_once)
    area, edge = tile.rows * tile.columns, tile.rows + tile.columns / tile.cluster
    near = 2 * DEPTH * spec.planes * edge * busy / CACHE
    hot = 2 * DEPTH * spec.products * area * busy / RATE
    step: float = (row.step**4 + near**4 + hot**4) ** 0.25
    here = tile.split == 1 or tile.within
    whole = row.whole + (area * _epilogue(spec) if here else 0.0)
    time: float = -(-tiles // at_once) * (spec.steps / tile.split * step + whole)
    weights = 2 * spec.planes * spec.n * spec.row
    size = BYTES[spec.a] * m * spec.k + weights + BYTES[spec.c] * m * spec.n
    if size > CACHED:
        time = (time**6 + (size / MEMORY) ** 6) ** (1 / 6)
    if tile.within:
        time += WITHIN + PART * tile.split
    elif tile.split > 1:
        matrices = work.full_extras(spec.epilogue)
        time += REDUCE + 4 * (tile.split + 1 + matrices) * m * spec.n / REDUCED
    if spec.a != spec.element:
        time += CONVERT + (4 + 2 * spec.planes) * m * spec.k / CONVERTED
    return BASE + time


def _epilogue(spec: WgmmaMatmulSpec) -> float:
    """Microseconds of an element of a tile, beyond the arithmetic."""
    tile, extras = spec.tile, spec.epilogue.extras
    size = sum(BYTES.get(e.dtype, 4) for e in extras if e.index == "full")
    each = size * (MATRIX if tile.together else MATRIX_IN_TURN)
    if spec.c == "f32":
        each += FULL
    plan = staged(spec)
    late = any(
        (e.index == "full" and i not in plan.matrices) or (e.index == "row" and i != plan.vector)
        for i, e in enumerate(extras)
    )
    return each + APART * (late and not tile.within)


def _like(spec: WgmmaMatmulSpec) -> Row:
    """A tile without a row: as the tensor cores' rate says."""
    tile = spec.tile
    step = 2 * DEPTH * tile.rows * tile.columns * spec.products * MULTIPROCESSORS / RATE
    return Row(tile, max(step, 0.14), 1.0)


def fastest(spec: WgmmaMatmulSpec, m: int, target: Target) -> WgmmaMatmulSpec:
    """The variant for ``m`` rows."""
    return min(variants(spec, target), key=lambda one: microseconds(one, m))

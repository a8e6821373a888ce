"""Which tiles there are, and how long launches take with each.

    t = BASE + waves * (steps * step + tile) + parts

As `wgmma_matmul.tiles`, whose rates of memory and of converting A these are. Fitted to 250 launches
(bf16, an H200, K = 4096, N = 4096 and 12288, M from 1 to 8192) in log space: the root mean square
of the error is 4 %, and the tile with the smallest estimate is 0.6 % behind the best one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from tilewright.backends.kernels.wgmma_matmul.tiles import (
    BASE,
    CACHED,
    CLUSTERS,
    CONVERT,
    CONVERTED,
    MEMORY,
    MULTIPROCESSORS,
)
from tilewright.backends.kernels.wgmma_sparse_matmul.spec import (
    BYTES,
    DEPTH,
    SparseTile,
    WgmmaSparseMatmulSpec,
)
from tilewright.backends.target import Target

RATE = 1.67e9
"""Operations a microsecond of all tensor cores, those with what is left out included."""

REDUCE, REDUCED = 2.9, 3.9e6
"""Microseconds of adding up parts in a launch of its own, and bytes a microsecond."""

MATRIX = 0.17e-3
"""Microseconds of an element of a tile for each f32 matrix that the epilogue reads where rows are
written: what dense products took for that (an H200); not measured here."""

LEAST_STEPS = 4
"""Of a part of K."""

SPLITS = (2, 4, 8)


@dataclass(frozen=True)
class Row:
    """A tile, and microseconds of a step and of its beginning and end."""

    tile: SparseTile
    step: float
    whole: float


MEASURED = (
    Row(SparseTile(128, 256, 5), 0.363, 7.0),
    Row(SparseTile(128, 256, 5, cluster=2), 0.445, 2.3),
    Row(SparseTile(128, 128, 8), 0.258, 3.2),
    Row(SparseTile(128, 64, 10), 0.229, 1.0),
    Row(SparseTile(64, 64, 12), 0.209, 0.03),
    Row(SparseTile(64, 32, 12), 0.203, 0.01),
    Row(SparseTile(64, 16, 12), 0.200, 0.01),
)
"""The first one for anything."""


def variants(spec: WgmmaSparseMatmulSpec, _target: Target) -> tuple[WgmmaSparseMatmulSpec, ...]:
    """With every tile that some number of rows may be fastest with."""
    tiles = dict.fromkeys((spec.tile, *_tiles(spec)))
    return tuple(replace(spec, tile=tile) for tile in tiles)


def _tiles(spec: WgmmaSparseMatmulSpec) -> Iterator[SparseTile]:
    for row in MEASURED:
        tile = row.tile
        if tile.columns * tile.cluster >= 2 * spec.n and tile != MEASURED[-1].tile:
            continue
        yield tile
        down = -(-spec.n // tile.columns)
        for split in SPLITS:
            if split * LEAST_STEPS > spec.steps or down * split > 2 * MULTIPROCESSORS:
                break
            if tile.cluster == 1:
                yield replace(tile, split=split)


def _row(tile: SparseTile) -> Row:
    for row in MEASURED:
        if row.tile == replace(tile, split=1):
            return row
    step = 2 * DEPTH * tile.rows * tile.columns * MULTIPROCESSORS / RATE
    return Row(tile, max(step, 0.2), 1.0)


def microseconds(spec: WgmmaSparseMatmulSpec, m: int) -> float:
    """Of a launch with ``m`` rows, without what the epilogue computes."""
    tile, row = spec.tile, _row(spec.tile)
    tiles = -(-m // tile.rows) * spec.down * tile.cluster * tile.split
    at_once = CLUSTERS.get(tile.cluster, MULTIPROCESSORS)
    busy = min(tiles, at_once)
    hot = 2 * DEPTH * tile.rows * tile.columns * busy / RATE
    step: float = (row.step**4 + hot**4) ** 0.25
    read = sum(BYTES.get(e.dtype, 4) for e in spec.epilogue.extras if e.index == "full")
    here = MATRIX * read / 4 * tile.rows * tile.columns if tile.split == 1 else 0.0
    time: float = -(-tiles // at_once) * (spec.steps / tile.split * step + row.whole + here)
    size = BYTES[spec.a] * m * spec.k + spec.packed_bytes + BYTES[spec.c] * m * spec.n
    if size > CACHED:
        time = (time**6 + (size / MEMORY) ** 6) ** (1 / 6)
    if tile.split > 1:
        time += REDUCE + (4 * (tile.split + 1) + read) * m * spec.n / REDUCED
    if spec.a != spec.element:
        time += CONVERT + 6 * m * spec.k / CONVERTED
    return BASE + time

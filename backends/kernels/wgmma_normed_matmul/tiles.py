"""Which tiles there are, and how long launches take with each.

    t = BASE + waves * (steps * step + values * VALUE + WHOLE) + SHARE of K in several blocks

``step``: of 64 in K, the most of what tensor cores take, what a multiprocessor draws, what all of
them draw from the common cache. ``values``: sums of a thread, which it brings together, normalizes
and writes. ``waves``: clusters that the device runs one after the other. Parts of K that wait in
the workspace: the product's time and that of the launch that sums and normalizes them.

Measured in chains on an H200, f16 in and out, microseconds, the best of clusters and of parts, and
the product alone with a region behind it within graphs of MiniLM and BERT:

    128 x 384 x 384    3.2   3.3   3.5        4096 x 384 x 384     8.2  13.0   7.2
    128 x 1536 x 384   6.4   4.1   5.9        4096 x 1536 x 384   14.2  17.6  12.2
    128 x 768 x 768    5.3   4.1   4.8        4096 x 768 x 768    18.4  24.1
    128 x 3072 x 768  12.5   6.7   7.5        4096 x 3072 x 768   40.7  41.5

For many rows neither pays: a tile's values are normalized when it is complete, beside no product,
and 96 blocks of three a cluster, or 117 at most, leave multiprocessors idle.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from tilewright.backends.kernels import work
from tilewright.backends.kernels.wgmma_matmul import tiles as plain
from tilewright.backends.kernels.wgmma_matmul.spec import BYTES, DEPTH, SHARED, Tile, start
from tilewright.backends.kernels.wgmma_matmul.tiles import (
    BASE,
    CACHE,
    CACHED,
    CONVERT,
    CONVERTED,
    MEMORY,
    MULTIPROCESSORS,
    RATE,
)
from tilewright.backends.kernels.wgmma_normed_matmul.spec import (
    CLUSTER,
    NormedTile,
    WgmmaNormedMatmulSpec,
)
from tilewright.backends.target import Target

AT_ONCE = {1: 132, 2: 132, 3: 117, 4: 124, 5: 115, 6: 120, 7: 112, 8: 120}
"""Blocks that run at once in clusters of so many, one a multiprocessor (an H200)."""

ROWS, PART, SUMMED = 1.1, 0.12, 3.6e6
"""Microseconds of a launch that normalizes rows, and of each part of K that it adds up; bytes a
microsecond of all of them."""

LEAST, DRAWN = 0.165, 1.0e5
"""Microseconds of a step at least; bytes a microsecond that one multiprocessor draws."""

WHOLE, VALUE, SHARE = 0.35, 0.071, 0.8
"""Microseconds of a tile's beginning and end with the exchange of statistics, of a value of a
thread, of adding up parts of K."""

LARGE = 64 * 128
"""Elements of a tile from which on it has four stages: a ring of more leaves no second block."""


def variants(spec: WgmmaNormedMatmulSpec, target: Target) -> tuple[WgmmaNormedMatmulSpec, ...]:
    """With every tile that some number of rows may be fastest with."""
    found = [spec, *(replace(spec, tile=tile) for tile in _tiles(spec))]
    parts = (replace(spec.product, tile=tile) for tile in _parts(spec, target))
    found += [replace(spec, tile=None, product=product) for product in parts]
    return tuple(dict.fromkeys(found))


def _parts(spec: WgmmaNormedMatmulSpec, target: Target) -> Iterator[Tile]:
    """Tiles that leave parts of K in the workspace: those of the product, and halves of short K."""
    first = replace(spec.product, tile=start(spec.product.products))
    for one in plain.variants(first, target):
        tile, steps = one.tile, spec.product.steps
        if tile.split > 1 and not tile.within:
            yield tile
        elif tile.split == 1 and 4 <= steps < 2 * plain.LEAST_STEPS and tile.columns <= 64:
            yield replace(tile, split=2, stages=max(2, -(-steps // 2)))


def _tiles(spec: WgmmaNormedMatmulSpec) -> Iterator[NormedTile]:
    n, steps, planes = spec.product.n, spec.product.steps, spec.product.planes
    for across in range(1, CLUSTER + 1):
        for split in (1, 2, 4):
            if across * split > CLUSTER or 2 * split > steps + 1:
                continue
            columns = -(-n // (8 * across)) * 8
            shapes = [(rows, columns, rows // 64, False) for rows in (64, 128)]
            turned = -(-columns // 64) * 64
            shapes += [(rows, turned, turned // 64, True) for rows in (16, 32) if turned <= 128]
            for rows, wide, groups, flipped in shapes:
                if wide > (256 if planes == 1 else 128) or (planes > 1 and rows == 128):
                    continue
                if -(-n // wide) != across or (rows == 128 and wide < 96):
                    continue
                part = -(-steps // split)
                longest = 4 if rows * wide >= LARGE else 8
                # With a ring as long as there is use and room.
                for stages in range(max(2, min(longest, part)), 1, -1):
                    tile = NormedTile(rows, wide, stages, groups, split, flipped)
                    if replace(spec, tile=tile).shared <= SHARED:
                        yield tile
                        break


def microseconds(spec: WgmmaNormedMatmulSpec, m: int) -> float:
    """Of a launch with ``m`` rows, without the arithmetic of the epilogue."""
    product, tile = spec.product, spec.tile
    if tile is None:
        full, split = work.full_extras(product.epilogue), product.tile.split
        parts = 4 * (split + 1 + full) * m * product.n
        sums = plain.REDUCE + parts / plain.REDUCED
        return plain.microseconds(product, m) - sums + ROWS + PART * split + parts / SUMMED
    blocks = -(-m // tile.rows) * spec.blocks
    beside = 2 if tile.groups == 1 and 2 * (spec.shared + 1024) <= SHARED + 1024 else 1
    busy = min(blocks, MULTIPROCESSORS)
    drawn = 2 * DEPTH * product.planes * (tile.rows + tile.columns)
    tensor = 2 * DEPTH * product.products * tile.rows * tile.columns * MULTIPROCESSORS / RATE
    near = drawn * busy / CACHE
    step: float = (LEAST**4 + tensor**4 + near**4 + (drawn / DRAWN) ** 4) ** 0.25
    values = tile.rows * tile.columns / (128 * tile.groups)
    each = product.steps / tile.split * step + values * VALUE + WHOLE
    waves = max(1.0, blocks / AT_ONCE[spec.blocks])
    if waves > 1 and beside == 1:
        waves = float(-(-blocks // AT_ONCE[spec.blocks]))
    time: float = waves * each
    weights = 2 * product.planes * product.n * product.row
    size = BYTES[product.a] * m * product.k + weights + BYTES[product.c] * m * product.n
    if size > CACHED:
        time = (time**6 + (size / MEMORY) ** 6) ** (1 / 6)
    if tile.split > 1:
        time += SHARE
    if product.a != product.element:
        time += CONVERT + (4 + 2 * product.planes) * m * product.k / CONVERTED
    return BASE + time


def fastest(spec: WgmmaNormedMatmulSpec, m: int, target: Target) -> WgmmaNormedMatmulSpec:
    """The variant for ``m`` rows."""
    return min(variants(spec, target), key=lambda one: microseconds(one, m))

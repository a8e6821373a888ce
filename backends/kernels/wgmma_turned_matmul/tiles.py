"""Which tiles there are, and how long launches take with each.

    t = BASE + waves * (FIRST + steps * step + values * VALUE) + (waves - 1) * AGAIN + SHARE

``first``: until A's first stage is there and what follows the last; ``step``: of 64 in K, the most
of what a multiprocessor and all of them draw of A (B is there before) and tensor cores take;
``values``: of C for a thread.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from tilewright.backends.kernels import work
from tilewright.backends.kernels.wgmma_matmul.spec import BYTES, DEPTH
from tilewright.backends.kernels.wgmma_matmul.tiles import (
    BASE,
    CACHE,
    CACHED,
    CONVERT,
    CONVERTED,
    LEAST_STEPS,
    MEMORY,
    MULTIPROCESSORS,
    RATE,
)
from tilewright.backends.kernels.wgmma_turned_matmul.spec import TurnedTile, WgmmaTurnedMatmulSpec
from tilewright.backends.target import Target

LEAST, DRAWN = 0.04, 1.0e5
"""Microseconds of a step at least; bytes a microsecond that one multiprocessor draws."""

FIRST, AGAIN, VALUE, SHARE = 0.05, 0.4, 0.012, 1.3
"""Microseconds: AGAIN until B of another tile is there, SHARE of adding up parts of K."""

MATRIX = 0.02
"""Of a value of a matrix that the epilogue reads."""


def variants(spec: WgmmaTurnedMatmulSpec, _target: Target) -> tuple[WgmmaTurnedMatmulSpec, ...]:
    """With every tile that some number of rows may be fastest with."""
    found = dict.fromkeys((spec.tile, *_tiles(spec)))
    return tuple(replace(spec, tile=tile) for tile in found)


def _tiles(spec: WgmmaTurnedMatmulSpec) -> Iterator[TurnedTile]:
    steps = spec.product.steps
    for rows in (16, 32, 64):
        for groups in (1, 2):
            if groups == 2 and spec.product.n <= 64:
                continue
            for split in (1, 2, 4):
                if split > 1 and split * LEAST_STEPS > steps:
                    break
                stages = max(2, min(8, -(-steps // split)))
                yield TurnedTile(rows, 64 * groups, stages, groups, split)


def microseconds(spec: WgmmaTurnedMatmulSpec, m: int) -> float:
    """Of a launch with ``m`` rows, without the arithmetic of the epilogue."""
    product, tile = spec.product, spec.tile
    blocks = -(-m // tile.rows) * spec.across * tile.split
    waves = -(-blocks // MULTIPROCESSORS)
    busy = min(blocks, MULTIPROCESSORS)
    # B of more tiles than run at once is drawn like A.
    drawn = 2 * DEPTH * (tile.rows + (0 if waves == 1 else tile.columns))
    tensor = 2 * DEPTH * tile.rows * tile.columns * MULTIPROCESSORS / RATE
    near = 2 * DEPTH * (tile.rows + tile.columns) * busy / CACHE
    step: float = (LEAST**4 + tensor**4 + near**4 + (drawn / DRAWN) ** 4) ** 0.25
    values = tile.rows * tile.columns / (tile.threads * tile.split)
    each = FIRST + product.steps / tile.split * step
    each += values * (VALUE + MATRIX * work.full_extras(product.epilogue))
    time: float = waves * each + (waves - 1) * AGAIN
    weights = 2 * product.n * product.row
    size = BYTES[product.a] * m * product.k + weights + BYTES[product.c] * m * product.n
    if size > CACHED:
        time = (time**6 + (size / MEMORY) ** 6) ** (1 / 6)
    if tile.split > 1:
        time += SHARE
    if product.a != product.element:
        time += CONVERT + 6 * m * product.k / CONVERTED
    return BASE + time


def fastest(spec: WgmmaTurnedMatmulSpec, m: int, target: Target) -> WgmmaTurnedMatmulSpec:
    """The variant for ``m`` rows."""
    return min(variants(spec, target), key=lambda one: microseconds(one, m))

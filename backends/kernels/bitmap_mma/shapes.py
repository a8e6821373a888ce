"""How products with bitmaps are divided: panels and shares of K of a block's warps, rings,
clusters."""

from __future__ import annotations

from dataclasses import dataclass, replace

from tilewright.backends.cuda.fewshapes import MULTIPROCESSORS, ROOMY, most_shared
from tilewright.backends.kernels.bitmap_mma.spec import BITMAPS, PANEL, PIECE, STEP, BitmapMmaSpec
from tilewright.backends.target import Target

SLOTS = 6
"""Of a ring at most."""

JOINING = {1: 0, 2: 160 << 10, 4: 176 << 10, 8: 192 << 10}
"""Blocks of a cluster -> bytes that a multiprocessor reads while their sums are joined: pairs took
1 to 1.5 us longer at K and N of 4096 on an H200."""

WARPS = {1: 24, 2: 16, 4: 12, 8: 8}
"""Tiles of eight rows -> warps of a block: what they keep in registers decides."""


@dataclass(frozen=True)
class Shape:
    """One function: tiles of eight rows; panels and shares of K of a block's warps; slots of a
    warp's ring and bytes of each; blocks of a cluster that share K."""

    tiles: int
    across: int
    down: int
    ring: int
    slot: int
    split: int

    @property
    def threads(self) -> int:
        return 32 * self.across * self.down

    @property
    def rows(self) -> int:
        """Most rows of A."""
        return 8 * self.tiles

    @property
    def shared(self) -> int:
        """Bytes of shared memory: rings, where values begin, barriers; then sums in their place."""
        warps = self.across * self.down
        rings = warps * (self.ring * (self.slot + PIECE + 8) + BITMAPS)
        return max(rings, 4 * self.rows * (36 * warps + PANEL * self.across))


def shapes(spec: BitmapMmaSpec, target: Target) -> tuple[Shape, ...]:
    """Functions for more and more rows; the last one takes any number, in blocks."""
    return tuple(_shape(spec, tiles, target) for tiles in WARPS)


def _shape(spec: BitmapMmaSpec, tiles: int, target: Target) -> Shape:
    """The division by which a multiprocessor reads the fewest bytes: of B, of A, and while sums are
    joined."""

    def bytes_read(division: tuple[int, int]) -> float:
        split, across = division
        turns = -(-(-(-spec.panels // across) * split) // MULTIPROCESSORS)
        steps = -(-spec.steps // split)
        each = spec.packed_bytes / (spec.panels * spec.steps)
        return turns * steps * (across * each + tiles * 16 * STEP) + JOINING[split]

    split, across = min(_divisions(spec, tiles, target), key=bytes_read)
    steps = -(-spec.steps // split)
    shape = Shape(tiles, across, max(1, min(WARPS[tiles] // across, steps)), 1, spec.slot, split)
    while shape.shared > most_shared(target):
        shape = replace(shape, down=shape.down // 2)
    while shape.ring < min(-(-steps // shape.down), SLOTS):
        deeper = replace(shape, ring=shape.ring + 1)
        if deeper.shared > most_shared(target):
            break
        shape = deeper
    return shape


def _divisions(spec: BitmapMmaSpec, tiles: int, target: Target) -> list[tuple[int, int]]:
    """Blocks of a cluster that share K, panels of a block."""
    found = []
    for split in JOINING if target.cpu.startswith("sm_90") else (1,):
        for across in range(1, WARPS[tiles] // 2 + 1):
            blocks = -(-spec.panels // across) * split
            if split == 1 or (split <= spec.steps and (split == 2 or blocks <= ROOMY)):
                found.append((split, across))
    return found

"""How products of few rows are divided: warps, panels and shares of K of a block, rings, clusters.

The figures that decide were measured on an H200 (kernels/grouped_mma): all blocks read the same
rows of A through L2 at about 40 bytes a nanosecond and multiprocessor, B comes at 32, and clusters
of four take two turns where nearly all multiprocessors must have a block of them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from tilewright.backends.cuda.operands import PANEL, Weights
from tilewright.backends.target import Target

WARPS = 8
"""Of a block, where nothing else decides."""

LONG = 8192
"""K from which on a block of the fewest rows has twice as many warps."""

MULTIPROCESSORS = 132
"""Of the device for which blocks are divided."""

ROOMY = 100
"""Blocks at most of a launch whose clusters are larger than two."""

JOINING = {1: 0, 2: 22 << 10, 4: 30 << 10, 8: 38 << 10}
"""Blocks of a cluster -> bytes of B that a multiprocessor gets while their sums are joined."""

STAGED = 132 << 10
"""Bytes of f32 rows that a block rounds itself; more are rounded once for all blocks."""

SLOTS = 8
"""Of a ring at most."""


@dataclass(frozen=True)
class Shape:
    """One function: tiles of 8 columns of mma; panels and shares of k of a block's warps; stages of
    a ring; blocks of a cluster; bytes for rows of A (0: rows of 16 bits come in stages beside B);
    blocks that share a multiprocessor, one of the next launch or of this."""

    tiles: int
    across: int
    down: int
    ring: int
    split: int
    room: int
    resident: int = 1

    @property
    def threads(self) -> int:
        return 32 * self.across * self.down

    def rows(self, weights: Weights) -> int:
        """Most rows of A."""
        return self.tiles * 8 // weights.parts

    def stage(self, weights: Weights) -> int:
        """Bytes of a stage of the ring."""
        codes = self.across * self.down * weights.slot
        return codes if self.room else codes + self.down * self.tiles * 16 * weights.step

    def shared(self, weights: Weights) -> int:
        """Bytes of shared memory."""
        warps, cols = self.across * self.down, self.tiles * 8
        sums = 4 * cols * (36 * warps + PANEL * self.across)
        return max(self.room + self.ring * self.stage(weights), sums)


@dataclass(frozen=True)
class Panels:
    """The function of the fewest rows: columns of mma that they are, warps, slots of a warp, bytes
    for rows of A, all of which a block keeps while panel after panel passes."""

    cols: int
    warps: int
    ring: int
    room: int

    @property
    def threads(self) -> int:
        return 32 * self.warps

    @property
    def resident(self) -> int:
        """Blocks of a multiprocessor."""
        return 2 * WARPS // self.warps

    def rows(self, weights: Weights) -> int:
        """Most rows of A."""
        return self.cols // weights.parts

    def early(self, weights: Weights) -> bool:
        """Whether blocks fill the device. Where they do not, blocks of the next launch that come
        while they run crowd on the multiprocessors that have none."""
        return weights.panels >= self.resident * MULTIPROCESSORS

    def shared(self, weights: Weights) -> int:
        """Bytes of shared memory."""
        sums = 2 * 4 * self.warps * self.cols * 36
        return self.room + sums + self.warps * self.ring * weights.slot


def most_shared(target: Target) -> int:
    """Bytes of shared memory of a block, a few left for what is not asked for."""
    return (min(target.l1_kib, 220) - 1) << 10


def panels(weights: Weights, target: Target) -> Panels | None:
    """For two rows, or one if A is long; none if there is no room for that."""
    warps = WARPS if weights.k < LONG else 2 * WARPS
    most = most_shared(target) * warps // (2 * WARPS)
    needed = -(-weights.steps // warps) * -(-weights.panels // MULTIPROCESSORS)
    for rows in (2, 1):
        cols = rows * weights.parts
        made = Panels(cols, warps, 2, cols * weights.steps * weights.step * 2)
        if made.shared(weights) > most:
            continue
        while made.ring < min(needed, SLOTS):
            deeper = replace(made, ring=made.ring + 1)
            if deeper.shared(weights) > most:
                break
            made = deeper
        return made
    return None


def shapes(weights: Weights, target: Target, halves: bool) -> tuple[Shape, ...]:
    """Functions for more and more rows; the last one takes any number, in blocks. ``halves``:
    whether A has 16-bit numbers already."""
    return tuple(_shape(weights, tiles, target, halves) for tiles in (1, 2, 4, 8))


def pixel_shapes(weights: Weights, target: Target) -> tuple[Shape, ...]:
    """Of convolutions: for many pixels and, where clusters can share K, for few."""
    across = min(4, weights.panels)
    made = Shape(8, across, 8 // across, 3, 1, 1 << 15, 1 if weights.scaled else 2)
    if not target.cpu.startswith("sm_90") or weights.steps < 8:
        return (made,)
    return made, replace(made, split=8 if weights.steps >= 16 else 4)


def _divisions(weights: Weights, target: Target) -> list[tuple[int, int]]:
    """Blocks of a cluster that share K, panels of a block."""
    found = []
    for split in (1, 2, 4, 8) if target.cpu.startswith("sm_90") else (1,):
        across = min(8, max(1, -(-weights.panels * split // MULTIPROCESSORS)))
        blocks = -(-weights.panels // across) * split
        if split == 1 or (split <= weights.steps and (split == 2 or blocks <= ROOMY)):
            found.append((split, across))
    return found


def _shape(weights: Weights, tiles: int, target: Target, halves: bool) -> Shape:
    """The division by which a multiprocessor reads the fewest bytes: of B, of A (which come a
    little faster), and while sums are joined."""

    def bytes_read(division: tuple[int, int]) -> float:
        split, across = division
        turns = -(-(-(-weights.panels // across) * split) // MULTIPROCESSORS)
        steps = -(-weights.steps // split)
        rows = tiles * 8 * weights.step * (2 if halves else 4)
        return turns * steps * (across * weights.slot + 0.75 * rows) + JOINING[split]

    split, across = min(_divisions(weights, target), key=bytes_read)
    steps = -(-weights.steps // split)
    read = tiles * 8 // weights.parts * steps * weights.step * 4
    staged = not halves and read <= STAGED and tiles <= 2
    # Two blocks of eight warps, or one of as many as there is room for.
    warps = WARPS if tiles > 2 or across <= 4 else 2 * WARPS
    down = max(1, min(warps // across, steps))
    resident = 2 if across * down <= WARPS and tiles <= 2 else 1
    room = tiles * 8 * steps * weights.step * 2 if staged else 0
    most = most_shared(target) // resident
    shape = Shape(tiles, across, down, 2, split, room, resident)
    while shape.shared(weights) > most:
        if shape.resident > 1:
            shape, most = replace(shape, resident=1), most_shared(target)
        elif shape.room > (least := shape.down * weights.step * tiles * 16):
            shape = replace(shape, room=max(least, shape.room // 2))
        else:
            shape = replace(shape, down=shape.down // 2)
    turns = -(-steps // shape.down) + (0 if shape.room else 1)
    while shape.ring < min(turns, SLOTS):
        deeper = replace(shape, ring=shape.ring + 1)
        if deeper.shared(weights) > most:
            break
        shape = deeper
    return shape


PICOSECONDS = {8: 0.16, 16: 0.18, 32: 0.36, 64: 0.5}
"""Of a weight in a block of so many columns of mma; `BEGINNING`: microseconds that come on top of
them where K is 4096 or more. W4A16 with A in f32 on an H200, 4096 and 14336 of K and N, M in 1, 8,
16 and 64 (32 is between them), to 15 %. Where a weight takes longer, its bytes do."""

BEGINNING = {8: 2.0, 16: 4.0, 32: 4.6, 64: 5.0}


def nanoseconds(weights: Weights, rows: int) -> int:
    """About how long products with ``rows`` rows take beside their bytes."""
    whole, rest = divmod(rows * weights.parts, 64)
    widths = [64] * whole + ([next(w for w in PICOSECONDS if rest <= w)] if rest else [])
    each = sum(PICOSECONDS[w] for w in widths)
    beginning = BEGINNING[max(widths, default=8)] * min(1.0, weights.k / 4096)
    return round(1000 * beginning + weights.k * weights.n * each / 1000)


def aligned(k: int, size: int = 2) -> str:
    """A formula: 1 where rows of A, of elements of ``size`` bytes, can be copied by 16 bytes."""
    return f"(1 - min(1, p1 % {16 // size} + a0 % 16))" if k else "0"

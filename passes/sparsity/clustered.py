"""Rows that, brought together, share blocks of zeros: a block matrix whose rows were permuted.

Greedy clustering of SMaT (Okanovic et al. 2024) over the distinct patterns of the lines.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from tilewright.passes.sparsity.blocks import Blocks, census, find_blocks
from tilewright.passes.structure.found import Detector, Found
from tilewright.passes.structure.matrix import Matrix

WIDTHS = (16, 32, 64)
DISTANCE = 0.5
"""Greatest group-weighted Jaccard distance of a pattern to the group that it joins."""

PATTERNS = 1024
"""Distinct patterns beyond which lines do not repeat; clustering compares all pairs."""

FEWER = 0.7
"""Share of the blocks without permutation that clustering has to reach."""


@dataclass(frozen=True, eq=False)
class Clustered(Found):
    """Blocks of `blocks` after `order`: line order[i] is line i of it. axis: 0 if the rows of W are
    permuted, 1 if the columns are. plain: blocks without the permutation."""

    kind: ClassVar[str] = "permuted blocks"
    axis: int
    order: np.ndarray
    blocks: Blocks
    plain: int

    @property
    def values(self) -> int:
        return self.blocks.values

    @property
    def index_bytes(self) -> int:
        return self.blocks.index_bytes + 4 * len(self.order)

    @property
    def text(self) -> str:
        b = self.blocks
        lines = "rows" if self.axis == 0 else "columns"
        count = int(np.count_nonzero(b.present))
        return f"{b.r} x {b.c}, {count:,} instead of {self.plain:,} blocks by permuted {lines}"

    def dense(self) -> np.ndarray:
        made = np.empty((self.k, self.n))
        inner = self.blocks.dense()
        if self.axis == 0:
            made[self.order] = inner
        else:
            made[:, self.order] = inner
        return made


def find_clustered(matrix: Matrix) -> Clustered | None:
    """The permutation of rows or columns with the fewest bytes in blocks of one of WIDTHS, where
    that is clearly fewer blocks than there are without."""
    if matrix.sparsity < 0.5:
        return None
    unmoved = find_blocks(matrix)
    best: Clustered | None = None
    for axis in (0, 1):
        lines = matrix.nonzero if axis == 0 else matrix.nonzero.T
        for width in WIDTHS:
            if lines.shape[1] < 2 * width or lines.shape[0] < 2 * width:
                continue
            order = clustered(lines, width)
            if order is None:
                continue
            moved = Matrix(matrix.w[order] if axis == 0 else matrix.w[:, order])
            blocks = find_blocks(moved)
            if blocks is None or min(blocks.r, blocks.c) < WIDTHS[0]:
                continue
            plain = _count(matrix, blocks)
            made = Clustered(matrix.k, matrix.n, 0.0, axis, order, blocks, plain)
            if np.count_nonzero(blocks.present) > FEWER * plain:
                continue
            if (
                unmoved is not None
                and unmoved.values <= blocks.values
                and unmoved.c > 1 < unmoved.r
            ):
                continue
            if best is None or made.bytes() < best.bytes():
                best = made
    return best


def _count(matrix: Matrix, blocks: Blocks) -> int:

    return int(np.count_nonzero(census(matrix, blocks.r, blocks.c)))


def clustered(lines: np.ndarray, width: int) -> np.ndarray | None:
    """An order of the lines (bool [L, E]) in which those with numbers in the same blocks of `width`
    elements are neighbours; None if patterns do not repeat."""
    padded = np.pad(lines, ((0, 0), (0, -lines.shape[1] % width)))
    used = padded.reshape(len(lines), -1, width).any(axis=2)
    patterns, which = np.unique(used, axis=0, return_inverse=True)
    which = which.reshape(-1)
    if len(patterns) > PATTERNS or 2 * len(patterns) > len(lines):
        return None
    sizes = np.bincount(which)
    left = list(np.argsort(-sizes, kind="stable"))
    order: list[np.ndarray] = []
    while left:
        seed = left.pop(0)
        group, pattern = int(sizes[seed]), patterns[seed].copy()
        order.append(np.flatnonzero(which == seed))
        if group % width == 0:
            continue  # whole blocks already
        for other in list(left):
            if _distance(pattern, patterns[other], group) <= DISTANCE:
                left.remove(other)
                pattern |= patterns[other]
                group += int(sizes[other])
                order.append(np.flatnonzero(which == other))
                if group % width == 0:
                    break
    return np.concatenate(order)


def _distance(a: np.ndarray, b: np.ndarray, group: int) -> float:
    """2c / (g |A| + |B| + c) with c = |A only| + g |B only|."""
    only = np.count_nonzero(a & ~b) + group * np.count_nonzero(b & ~a)
    total = group * np.count_nonzero(a) + np.count_nonzero(b) + only
    return 2 * only / total if total else 0.0


DETECTORS = (Detector("permuted blocks", find_clustered, order=16),)

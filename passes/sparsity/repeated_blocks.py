"""Blocks of a grid that are multiples of earlier ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from tilewright.passes.structure.found import Detector, Found
from tilewright.passes.structure.lines import representatives
from tilewright.passes.structure.matrix import Matrix

PARTS = (1, 2, 3, 4, 8)
"""Into how many parts an axis is cut to look for repeated blocks."""


@dataclass(frozen=True, eq=False)
class RepeatedBlocks(Found):
    """W as a grid of blocks of which some are multiples of others. of, factors: as in
    RepeatedLines, of the blocks in order of rows."""

    kind: ClassVar[str] = "repeated blocks"
    product: ClassVar[bool] = True
    grid: tuple[int, int]
    of: np.ndarray
    factors: np.ndarray
    weights: np.ndarray

    @property
    def distinct(self) -> int:
        """Blocks that stand for themselves."""
        return int(np.count_nonzero(self.of == np.arange(len(self.of))))

    @property
    def values(self) -> int:
        return self.distinct * (self.k * self.n // len(self.of)) + len(self.of)

    @property
    def work(self) -> int:
        return self.k * self.n

    @property
    def text(self) -> str:
        p, q = self.grid
        return f"{self.distinct} of {len(self.of)} blocks of {self.k // p} x {self.n // q} distinct"

    def dense(self) -> np.ndarray:
        (p, q), of = self.grid, self.of
        shape = (p, self.k // p, q, self.n // q)
        blocks = self.weights.astype(np.float64).reshape(shape).transpose(0, 2, 1, 3)
        flat = blocks.reshape(p * q, *blocks.shape[2:])
        made = flat[of] * self.factors[:, None, None]
        whole: np.ndarray = made.reshape(blocks.shape).transpose(0, 2, 1, 3).reshape(self.k, self.n)
        return whole


def find_repeated_blocks(matrix: Matrix) -> RepeatedBlocks | None:
    """The grid of blocks with the fewest distinct elements, where no line repeats."""
    best: RepeatedBlocks | None = None
    if min(matrix.k, matrix.n) < 4:
        return None
    for p in PARTS:
        for q in PARTS:
            if p * q < 2 or matrix.k % p or matrix.n % q:
                continue
            if matrix.k // p < 2 or matrix.n // q < 2:
                continue
            found = _blocks(matrix, p, q)
            if found is not None and (best is None or found.values < best.values):
                best = found
    return best


def _blocks(matrix: Matrix, p: int, q: int) -> RepeatedBlocks | None:
    height, width = matrix.k // p, matrix.n // q
    rng = np.random.default_rng(2)
    i, j = rng.integers(0, height, 64), rng.integers(0, width, 64)
    view = matrix.w.reshape(p, height, q, width)
    few = view[:, i, :, j].transpose(1, 2, 0).reshape(p * q, 64)
    of, _ = representatives(np.ascontiguousarray(few))
    if (of == np.arange(len(of))).all():
        return None
    blocks = view.transpose(0, 2, 1, 3).reshape(p * q, height * width)
    of, factors = representatives(np.ascontiguousarray(blocks))
    if (of == np.arange(len(of))).all():
        return None
    made = RepeatedBlocks(matrix.k, matrix.n, 0.0, (p, q), of, factors, matrix.w)
    off = blocks.astype(np.float64) - blocks[of].astype(np.float64) * factors[:, None]
    error = float(np.linalg.norm(off) / np.sqrt(matrix.energy))
    return RepeatedBlocks(matrix.k, matrix.n, error, made.grid, of, factors, matrix.w)


DETECTORS = (Detector("repeated blocks", find_repeated_blocks, order=21),)

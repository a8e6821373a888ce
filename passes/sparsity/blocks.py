"""Blocks of zeros on a grid: r outputs x c inputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from tilewright.compiler.formats.null_models import blocks_dropped
from tilewright.passes.structure.found import Detector, Energy, Found, Gauge
from tilewright.passes.structure.matrix import Matrix

SIZES = (
    *((4, 1), (8, 1), (16, 1), (1, 4), (4, 4), (8, 8), (16, 16)),
    *((32, 32), (64, 64), (128, 128)),
)
"""(r, c) that kernels exist for: r outputs (columns of W) x c inputs (rows of W)."""

EXPLAINED = 0.75
"""Share of all zeros that lie in blocks of zeros, from which on the blocks are the pattern."""

MEASURED = (4, 1), (16, 16)
"""Blocks whose energies are compared with the null model, and the share of them that is dropped."""

DROPPED = 0.5


@dataclass(frozen=True, eq=False)
class Blocks(Found):
    """The blocks that are not all zero. present: bool [ceil(K / c), ceil(N / r)]."""

    kind: ClassVar[str] = "blocks"
    r: int
    c: int
    present: np.ndarray
    weights: np.ndarray

    @property
    def filled(self) -> int:
        """Blocks that are not all zero."""
        return int(np.count_nonzero(self.present))

    @property
    def values(self) -> int:
        return self.filled * self.r * self.c

    @property
    def index_bytes(self) -> int:
        return 2 * self.filled + 4 * (int(self.present.shape[1]) + 1)

    @property
    def text(self) -> str:
        return f"{self.r} x {self.c}, {self.filled / self.present.size:.1%} of the blocks"

    def dense(self) -> np.ndarray:
        made: np.ndarray = self.weights.astype(np.float64)
        return made


def tiled(w: np.ndarray, r: int, c: int) -> np.ndarray:
    """[K / c, c, N / r, r], padded by zeros."""
    low_k, low_n = -w.shape[0] % c, -w.shape[1] % r
    padded = np.pad(w, ((0, low_k), (0, low_n))) if low_k or low_n else w
    return padded.reshape(padded.shape[0] // c, c, padded.shape[1] // r, r)


def census(matrix: Matrix, r: int, c: int) -> np.ndarray:
    """Which blocks have a number: bool [ceil(K / c), ceil(N / r)]."""
    return np.asarray(tiled(matrix.nonzero, r, c).any(axis=(1, 3)))


def find_blocks(matrix: Matrix) -> Blocks | None:
    """Of the sizes whose empty blocks hold most of the zeros, and many more than zeros at random
    places would make, the one of the fewest bytes. Rows and columns of zeros alone are none."""
    live = int(np.count_nonzero(matrix.rows)) * int(np.count_nonzero(matrix.columns))
    if matrix.zeros - (matrix.w.size - live) < 0.02 * live:
        return None
    best: Blocks | None = None
    for r, c in SIZES:
        if r > matrix.n or c > matrix.k or matrix.w.size < 4 * r * c:
            continue
        present = census(matrix, r, c)
        made = Blocks(matrix.k, matrix.n, 0.0, r, c, present, matrix.w)
        held = 1 - made.values / (present.size * r * c)
        chance = matrix.sparsity ** (r * c)
        least = max(EXPLAINED * matrix.sparsity, (chance + matrix.sparsity) / 2)
        if held < least or made.saved_bytes <= 0:
            continue
        if best is None or made.bytes() < best.bytes():
            best = made
    return best


def measure_blocks(matrix: Matrix) -> Energy | None:
    """What is lost with the weaker half of all blocks, of the size nearest to structure."""
    found: list[Energy] = []
    for r, c in MEASURED:
        rows, columns = matrix.k - matrix.k % c, matrix.n - matrix.n % r
        if rows * columns < 4096 or rows * columns < 64 * r * c:
            continue
        part = matrix.w[:rows, :columns].reshape(rows // c, c, columns // r, r)
        energies = np.einsum("acbr,acbr->ab", part, part).reshape(-1)
        drop = int(DROPPED * len(energies))
        weakest = np.partition(energies, drop)[:drop].sum(dtype=np.float64)
        null = blocks_dropped(drop / len(energies), r * c)
        found.append(Energy("blocks", f"half of {r} x {c}", float(weakest / matrix.energy), null))
    return min(found, key=lambda e: e.lost / e.null, default=None)


DETECTORS = (Detector("blocks", find_blocks, order=13),)
GAUGES = (Gauge("blocks", measure_blocks),)

"""Block-diagonal matrices, after permuting rows and columns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from tilewright.passes.structure.found import Detector, Found
from tilewright.passes.structure.matrix import Matrix


@dataclass(frozen=True, eq=False)
class BlockDiagonal(Found):
    """parts: (rows, columns, block f64 [rows, columns]) of every block, in order of rows."""

    kind: ClassVar[str] = "block-diagonal"
    parts: tuple[tuple[np.ndarray, np.ndarray, np.ndarray], ...]

    @property
    def values(self) -> int:
        return sum(block.size for _, _, block in self.parts)

    @property
    def in_order(self) -> bool:
        """Whether the blocks are on the diagonal as the matrix is."""
        rows = np.concatenate([r for r, _, _ in self.parts])
        columns = np.concatenate([c for _, c, _ in self.parts])
        return bool((np.diff(rows) > 0).all() and (np.diff(columns) > 0).all())

    @property
    def index_bytes(self) -> int:
        return 0 if self.in_order else 4 * sum(len(r) + len(c) for r, c, _ in self.parts)

    @property
    def text(self) -> str:
        sizes = {b.shape for _, _, b in self.parts}
        shape = f"{len(self.parts)} blocks"
        if len(sizes) == 1:
            k, n = next(iter(sizes))
            shape += f" of {k} x {n}"
        return shape if self.in_order else f"{shape}, permuted"

    def dense(self) -> np.ndarray:
        made = np.zeros((self.k, self.n))
        for rows, columns, block in self.parts:
            made[np.ix_(rows, columns)] = block
        return made


def find_block_diagonal(matrix: Matrix) -> BlockDiagonal | None:
    """Connected components of the graph of rows and columns that share an element; blocks that
    together have at most three quarters of the matrix, so that they are more than a corner."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    if matrix.sparsity < 0.25 or min(matrix.k, matrix.n) < 4:
        return None
    i, j = np.nonzero(matrix.nonzero)
    size = matrix.k + matrix.n
    edges = coo_array((np.ones(len(i), np.int8), (i, matrix.k + j)), shape=(size, size))
    count, label = connected_components(edges, directed=False)
    if count < 2:
        return None
    row_label, column_label = label[: matrix.k], label[matrix.k :]
    both = np.intersect1d(row_label, column_label)
    area = int(
        np.sum(np.bincount(row_label, minlength=count) * np.bincount(column_label, minlength=count))
    )
    if len(both) < 2 or area > 0.75 * matrix.w.size:
        return None
    parts = []
    for one in dict.fromkeys(int(x) for x in row_label if x in set(both.tolist())):
        rows, columns = np.flatnonzero(row_label == one), np.flatnonzero(column_label == one)
        parts.append((rows, columns, matrix.w[np.ix_(rows, columns)].astype(np.float64)))
    return BlockDiagonal(matrix.k, matrix.n, 0.0, tuple(parts))


DETECTORS = (Detector("block-diagonal", find_block_diagonal, order=15),)

"""Rows and columns of zeros: inputs that nothing reads, outputs that are always zero."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from tilewright.passes.structure.found import Detector, Found
from tilewright.passes.structure.matrix import Matrix


@dataclass(frozen=True, eq=False)
class DeadLines(Found):
    """rows, columns: indices of all that are zero."""

    kind: ClassVar[str] = "dead lines"
    rows: np.ndarray
    columns: np.ndarray
    weights: np.ndarray

    @property
    def shape(self) -> tuple[int, int]:
        """Of what is left."""
        return self.k - len(self.rows), self.n - len(self.columns)

    @property
    def values(self) -> int:
        return self.shape[0] * self.shape[1]

    @property
    def index_bytes(self) -> int:
        k, n = self.shape
        return 4 * min(len(self.rows), k) + 4 * min(len(self.columns), n)

    @property
    def text(self) -> str:
        named = ((len(self.rows), self.k, "rows"), (len(self.columns), self.n, "columns"))
        return ", ".join(f"{dead} of {all_} {name}" for dead, all_, name in named if dead)

    def dense(self) -> np.ndarray:
        made: np.ndarray = self.weights.astype(np.float64)
        made[self.rows] = 0.0
        made[:, self.columns] = 0.0
        return made


def find_dead_lines(matrix: Matrix) -> DeadLines | None:
    """At least one row or column of zeros."""
    if matrix.zeros < min(matrix.k, matrix.n):
        return None
    rows, columns = np.flatnonzero(matrix.rows == 0), np.flatnonzero(matrix.columns == 0)
    if not len(rows) and not len(columns):
        return None
    return DeadLines(matrix.k, matrix.n, 0.0, rows, columns, matrix.w)


DETECTORS = (Detector("dead lines", find_dead_lines, order=10),)

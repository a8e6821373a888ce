"""Banded matrices: all elements near the diagonal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from tilewright.passes.structure.found import Detector, Found
from tilewright.passes.structure.matrix import Matrix


@dataclass(frozen=True, eq=False)
class Band(Found):
    """W[i, j] = 0 unless -lower <= j - i <= upper."""

    kind: ClassVar[str] = "band"
    lower: int
    upper: int
    weights: np.ndarray

    @property
    def values(self) -> int:
        j = np.arange(self.n)
        top = np.maximum(j - self.upper, 0)
        bottom = np.minimum(j + self.lower, self.k - 1)
        return int(np.maximum(bottom - top + 1, 0).sum())

    @property
    def text(self) -> str:
        return f"{self.lower} below, {self.upper} above the diagonal"

    def dense(self) -> np.ndarray:
        made: np.ndarray = self.weights.astype(np.float64)
        return made


def find_band(matrix: Matrix) -> Band | None:
    """A band of at most half of the matrix that is itself at least half full."""
    if matrix.sparsity < 0.5 or min(matrix.k, matrix.n) < 4:
        return None
    first = matrix.nonzero.argmax(axis=1)
    last = matrix.n - 1 - matrix.nonzero[:, ::-1].argmax(axis=1)
    live = np.flatnonzero(matrix.rows)
    lower, upper = int((live - first[live]).max()), int((last[live] - live).max())
    made = Band(matrix.k, matrix.n, 0.0, lower, upper, matrix.w)
    count = matrix.w.size - matrix.zeros
    return made if made.values <= matrix.w.size / 2 and 2 * count >= made.values else None


DETECTORS = (Detector("band", find_band, order=14),)

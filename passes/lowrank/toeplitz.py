"""Toeplitz, circulant and Hankel matrices: constant along diagonals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from tilewright.passes.structure.found import Detector, Found
from tilewright.passes.structure.matrix import Matrix


@dataclass(frozen=True, eq=False)
class Toeplitz(Found):
    """W[i, j] = taps[j - i + K - 1]; of a Hankel matrix with i from the last row. A circulant one
    repeats its taps after N."""

    kind: ClassVar[str] = "Toeplitz"
    taps: np.ndarray
    hankel: bool
    circulant: bool

    @property
    def reach(self) -> int:
        """Taps from the first to the last that is not zero."""
        live = np.flatnonzero(self.taps)
        return int(live[-1] - live[0] + 1)

    @property
    def values(self) -> int:
        return self.n if self.circulant else self.reach

    @property
    def work(self) -> int:
        """As a convolution: every output sees `reach` inputs, where there are as many."""
        return min(self.reach, self.k) * self.n

    @property
    def text(self) -> str:
        name = "Hankel" if self.hankel else "circulant" if self.circulant else "Toeplitz"
        return f"{name}, {self.reach} taps"

    def dense(self) -> np.ndarray:
        i, j = np.arange(self.k), np.arange(self.n)
        if self.hankel:
            i = i[::-1]
        made: np.ndarray = self.taps[j[None] - i[:, None] + self.k - 1].astype(np.float64)
        return made


def find_toeplitz(matrix: Matrix) -> Toeplitz | None:
    """Equal elements along diagonals or antidiagonals."""
    if min(matrix.k, matrix.n) < 3:
        return None
    if _constant(matrix.w):
        taps = np.concatenate((matrix.w[:0:-1, 0], matrix.w[0]))
        square = matrix.k == matrix.n
        circulant = square and bool(np.array_equal(taps[: matrix.n - 1], taps[matrix.n :]))
        return Toeplitz(matrix.k, matrix.n, 0.0, taps, False, circulant)
    flipped = matrix.w[::-1]
    if _constant(flipped):
        taps = np.concatenate((flipped[:0:-1, 0], flipped[0]))
        return Toeplitz(matrix.k, matrix.n, 0.0, taps, True, False)
    return None


def _constant(w: np.ndarray) -> bool:
    if not np.array_equal(w[1, 1:], w[0, :-1]):
        return False
    return bool(np.array_equal(w[1:, 1:], w[:-1, :-1]))


DETECTORS = (Detector("Toeplitz", find_toeplitz, order=4, settles=True),)

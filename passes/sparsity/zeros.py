"""Zeros anywhere, which a bitmap with the other numbers stores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from tilewright.passes.structure.found import Detector, Found
from tilewright.passes.structure.matrix import Matrix

SHARE = 1 / 16
"""Of zeros, from which on a bitmap (one bit an element) is smaller than 16-bit weights."""


@dataclass(frozen=True, eq=False)
class Zeros(Found):
    """The elements that are not zero, in order of rows, with a bit for each element."""

    kind: ClassVar[str] = "zeros"
    count: int
    weights: np.ndarray

    @property
    def values(self) -> int:
        return self.k * self.n - self.count

    @property
    def index_bytes(self) -> int:
        return -(-self.k * self.n // 8)

    @property
    def text(self) -> str:
        return f"{self.count / (self.k * self.n):.1%} of the elements"

    def dense(self) -> np.ndarray:
        made: np.ndarray = self.weights.astype(np.float64)
        return made


def find_zeros(matrix: Matrix) -> Zeros | None:
    """More zeros than SHARE of all elements."""
    if matrix.w.size < 2 or matrix.sparsity < SHARE:
        return None
    return Zeros(matrix.k, matrix.n, 0.0, matrix.zeros, matrix.w)


DETECTORS = (Detector("zeros", find_zeros, order=11),)

"""Matrices that a single number or one number a row says all of: zero, constant, (scaled) diagonal
and permutation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from tilewright.passes.structure.found import Detector, Found
from tilewright.passes.structure.matrix import Matrix


@dataclass(frozen=True, eq=False)
class Constant(Found):
    """All elements are `value`."""

    kind: ClassVar[str] = "constant"
    value: float

    @property
    def values(self) -> int:
        return 1 if self.value else 0

    @property
    def work(self) -> int:
        return self.values

    @property
    def text(self) -> str:
        return f"all {self.value:g}"

    def dense(self) -> np.ndarray:
        return np.full((self.k, self.n), self.value)


@dataclass(frozen=True, eq=False)
class ScaledPermutation(Found):
    """At most one element that is not zero in each row and column: W[rows[i], columns[i]] =
    factors[i]. A diagonal where both are equal, then the scaled identity if factors are."""

    kind: ClassVar[str] = "permutation"
    rows: np.ndarray
    columns: np.ndarray
    factors: np.ndarray

    @property
    def diagonal(self) -> bool:
        """Whether every element is on the main diagonal."""
        return bool(np.array_equal(self.rows, self.columns))

    @property
    def scale(self) -> float | None:
        """The factor, if all are equal."""
        first = float(self.factors[0])
        return first if bool((self.factors == first).all()) else None

    @property
    def values(self) -> int:
        return 1 if self.scale is not None else len(self.factors)

    @property
    def index_bytes(self) -> int:
        return 0 if self.diagonal else 4 * len(self.rows)

    @property
    def work(self) -> int:
        return len(self.rows)

    @property
    def text(self) -> str:
        name = "diagonal" if self.diagonal else "permutation"
        if self.scale is None:
            return f"scaled {name}" if not self.diagonal else name
        if self.diagonal and len(self.rows) == min(self.k, self.n):
            name = "identity"
        return name if self.scale == 1 else f"{self.scale:g} x {name}"

    def dense(self) -> np.ndarray:
        made = np.zeros((self.k, self.n))
        made[self.rows, self.columns] = self.factors
        return made


def find_constant(matrix: Matrix) -> Constant | None:
    """All elements equal; a single element is no structure unless it is zero."""
    first = matrix.w[0, 0]
    if matrix.w.size == 1 and first:
        return None
    if not (matrix.w[0] == first).all() or not (matrix.w == first).all():
        return None
    return Constant(matrix.k, matrix.n, 0.0, float(first))


def find_permutation(matrix: Matrix) -> ScaledPermutation | None:
    """At most one element in each row and column, in at least half of the lines of the shorter side
    (of fewer, what is left without empty lines is the structure)."""
    if matrix.w.size == 1 or matrix.w.size - matrix.zeros > min(matrix.k, matrix.n):
        return None
    if matrix.rows.max() > 1 or matrix.columns.max() > 1:
        return None
    rows, columns = np.nonzero(matrix.w)
    if 2 * len(rows) < min(matrix.k, matrix.n) or min(matrix.k, matrix.n) < 2:
        return None
    factors = matrix.w[rows, columns].astype(np.float64)
    return ScaledPermutation(matrix.k, matrix.n, 0.0, rows, columns, factors)


DETECTORS = (
    Detector("constant", find_constant, order=0, settles=True),
    Detector("permutation", find_permutation, order=1, settles=True),
)

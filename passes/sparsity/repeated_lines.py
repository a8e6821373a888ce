"""Rows and columns that are multiples of earlier ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from tilewright.passes.structure.found import Detector, Found
from tilewright.passes.structure.lines import representatives
from tilewright.passes.structure.matrix import Matrix


@dataclass(frozen=True, eq=False)
class RepeatedLines(Found):
    """Line i along `axis` (0: rows, 1: columns) is factors[i] times line of[i]; a line that stands
    for itself has factor 1. lines: those, in order."""

    kind: ClassVar[str] = "repeated lines"
    axis: int
    of: np.ndarray
    factors: np.ndarray
    lines: np.ndarray

    @property
    def distinct(self) -> np.ndarray:
        """Lines that stand for themselves."""
        return np.flatnonzero(self.of == np.arange(len(self.of)))

    @property
    def equal(self) -> bool:
        """Whether all factors are 1."""
        return bool((self.factors == 1).all())

    @property
    def values(self) -> int:
        return int(self.lines.size) + (0 if self.equal else len(self.of))

    @property
    def index_bytes(self) -> int:
        return 4 * len(self.of)

    @property
    def text(self) -> str:
        name = "rows" if self.axis == 0 else "columns"
        how = "distinct" if self.equal else "distinct up to factors"
        return f"{len(self.distinct)} of {len(self.of)} {name} {how}"

    def dense(self) -> np.ndarray:
        place = np.zeros(len(self.of), np.int64)
        place[self.distinct] = np.arange(len(self.distinct))
        index = place[self.of]
        if self.axis == 0:
            made: np.ndarray = self.lines[index].astype(np.float64) * self.factors[:, None]
        else:
            made = self.lines[:, index].astype(np.float64) * self.factors
        return made


def find_repeated_rows(matrix: Matrix) -> RepeatedLines | None:
    """At least one row that is a multiple of another."""
    return _lines(matrix, 0)


def find_repeated_columns(matrix: Matrix) -> RepeatedLines | None:
    """At least one column that is a multiple of another."""
    return _lines(matrix, 1)


def _lines(matrix: Matrix, axis: int) -> RepeatedLines | None:
    vectors = matrix.w if axis == 0 else matrix.w.T
    if vectors.shape[1] < 2:
        return None  # numbers are multiples of each other
    dead = np.flatnonzero((matrix.rows if axis == 0 else matrix.columns) == 0)
    of, factors = representatives(vectors)
    of[dead], factors[dead] = dead, 1.0
    distinct = np.flatnonzero(of == np.arange(len(of)))
    if len(distinct) == len(of):
        return None
    kept = np.take(matrix.w, distinct, axis)
    made = RepeatedLines(matrix.k, matrix.n, 0.0, axis, of, factors, kept)
    off = _residual(matrix, made)
    return RepeatedLines(matrix.k, matrix.n, off, axis, of, factors, kept)


def _residual(matrix: Matrix, made: RepeatedLines) -> float:
    """Only repeated lines can differ."""
    repeated = np.flatnonzero(made.of != np.arange(len(made.of)))
    lines = np.take(matrix.w, repeated, made.axis).astype(np.float64)
    firsts = np.take(matrix.w, made.of[repeated], made.axis).astype(np.float64)
    factors = made.factors[repeated]
    off = lines - firsts * (factors[:, None] if made.axis == 0 else factors)
    return float(np.linalg.norm(off) / np.sqrt(matrix.energy))


DETECTORS = (
    Detector("repeated lines", find_repeated_rows, order=20),
    Detector("repeated lines", find_repeated_columns, order=20),
)

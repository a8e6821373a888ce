"""Walsh-Hadamard matrices, up to permutations and scaling of rows and columns, or parts of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from tilewright.passes.structure.found import TOLERANCE, Detector, Found
from tilewright.passes.structure.matrix import Matrix


@dataclass(frozen=True, eq=False)
class Hadamard(Found):
    """W[i, j] = row_scale[i] * (-1)^popcount(rows[i] & columns[j]) * column_scale[j].

    size: of the transform in natural (Sylvester) order, a power of two; rows, columns: which of its
    rows and columns these are.
    """

    kind: ClassVar[str] = "Hadamard"
    size: int
    rows: np.ndarray
    columns: np.ndarray
    row_scale: np.ndarray
    column_scale: np.ndarray

    @property
    def plain(self) -> bool:
        """Whether it is the table itself, in order, times one number."""
        order = np.array_equal(self.rows, np.arange(self.k))
        return (
            order
            and np.array_equal(self.columns, np.arange(self.n))
            and np.ptp(self.row_scale) <= TOLERANCE * abs(self.row_scale[0])
            and np.ptp(self.column_scale) <= TOLERANCE * abs(self.column_scale[0])
        )

    @property
    def values(self) -> int:
        return 1 if self.plain else self.k + self.n

    @property
    def index_bytes(self) -> int:
        return 0 if self.plain else 4 * (self.k + self.n)

    @property
    def work(self) -> int:
        """Additions count as multiplications: half of them for each of log2 stages."""
        return self.size * (self.size.bit_length() - 1) // 2 + self.values

    @property
    def text(self) -> str:
        return f"of {self.size}" if self.plain else f"of {self.size}, permuted or scaled"

    def dense(self) -> np.ndarray:
        both = self.rows[:, None] & self.columns[None]
        made: np.ndarray = 1.0 - 2.0 * (np.bitwise_count(both) & 1)
        made *= self.row_scale[:, None] * self.column_scale
        return made


def find_hadamard(matrix: Matrix) -> Hadamard | None:
    """Magnitudes of rank 1, and signs that, made positive in the first row and column, are the
    characters of a group of 2^m: each row the exclusive or of some of m basis rows."""
    size = max(matrix.k, matrix.n)
    if min(matrix.k, matrix.n) < 4 or size & (size - 1) or matrix.zeros:
        return None
    magnitude = np.abs(matrix.w[:4].astype(np.float64))
    if np.ptp(magnitude / magnitude[0], axis=1).max() > 64 * TOLERANCE * magnitude.max():
        return None
    signs = np.signbit(matrix.w)
    bits = signs ^ signs[0] ^ signs[:, :1] ^ signs[0, 0]
    codes = _codes(bits, size.bit_length() - 1)
    if codes is None:
        return None
    rows, columns = codes
    absolute = np.abs(matrix.w.astype(np.float64))
    row_scale = absolute[:, 0] * np.where(signs[:, 0], -1.0, 1.0)
    column_scale = absolute[0] / absolute[0, 0] * np.where(signs[0] ^ signs[0, 0], -1.0, 1.0)
    made = Hadamard(matrix.k, matrix.n, 0.0, size, rows, columns, row_scale, column_scale)
    off = matrix.w.astype(np.float64) - made.dense()
    error = float(np.linalg.norm(off) / np.sqrt(matrix.energy))
    if error > TOLERANCE:
        return None
    return Hadamard(matrix.k, matrix.n, error, size, rows, columns, row_scale, column_scale)


def _codes(bits: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray] | None:
    """(rows, columns) with bits[i, j] = parity of rows[i] & columns[j], in `most` bits.

    Rows in natural order are tried as the basis first, so that a table in order gets its own codes.
    """
    basis: list[int] = []  # rows of `bits` that no others give
    reduced: list[tuple[np.ndarray, int, int]] = []  # (row, its leading column, code in basis rows)
    rows = np.zeros(len(bits), np.int64)
    for i, row in enumerate(bits):
        rest, code = row.copy(), 0
        for line, lead, made in reduced:
            if rest[lead]:
                rest ^= line
                code ^= made
        if rest.any():
            if len(basis) == most:
                return None
            own = 1 << len(basis)
            basis.append(i)
            reduced.append((rest, int(rest.argmax()), code ^ own))
            code = own
        rows[i] = code
    if len(basis) < 2:
        return None
    columns = np.zeros(bits.shape[1], np.int64)
    for place, i in enumerate(basis):
        columns |= bits[i].astype(np.int64) << place
    if len(np.unique(columns)) != len(columns) or len(np.unique(rows)) != len(rows):
        return None
    return rows, columns


DETECTORS = (Detector("Hadamard", find_hadamard, order=5, settles=True),)

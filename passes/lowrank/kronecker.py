"""Kronecker products and short sums of them: W = sum_t A_t (x) B_t.

The rearrangement whose rows are the blocks of W has the rank of the sum (Van Loan and Pitsianis
1993); a layer of PHM form (Zhang et al. 2021) has as many terms as A_t has rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import ClassVar

import numpy as np

from tilewright.passes.lowrank.numeric import few
from tilewright.passes.structure.divisors import pairs
from tilewright.passes.structure.found import TOLERANCE, Detector, Found
from tilewright.passes.structure.matrix import Matrix

TERMS = 4
SAMPLE = 8
"""Blocks, and elements of a block, that are looked at first."""


@dataclass(frozen=True, eq=False)
class Kronecker(Found):
    """W = sum_t kron(outer[t], inner[t]): outer f64 [T, k1, n1], inner f64 [T, k2, n2]."""

    kind: ClassVar[str] = "Kronecker"
    product: ClassVar[bool] = True
    outer: np.ndarray
    inner: np.ndarray

    @property
    def terms(self) -> int:
        """How many products are added."""
        return len(self.outer)

    @property
    def values(self) -> int:
        return int(self.outer.size + self.inner.size)

    @property
    def work(self) -> int:
        """x [k1, k2] times all inner, then outer over (t, k1), or the other way round."""
        t, k1, n1 = self.outer.shape
        _, k2, n2 = self.inner.shape
        return int(min(k1 * k2 * n2 * t + t * k1 * n1 * n2, k2 * k1 * n1 * t + t * k2 * n2 * n1))

    @property
    def text(self) -> str:
        (t, *a), (_, *b) = self.outer.shape, self.inner.shape
        text = f"{a[0]} x {a[1]} (x) {b[0]} x {b[1]}"
        return text if t == 1 else f"{t} terms {text}"

    def dense(self) -> np.ndarray:
        made: np.ndarray = np.einsum("tab,tcd->acbd", self.outer, self.inner)
        return made.reshape(self.k, self.n)


def find_kronecker(matrix: Matrix) -> Kronecker | None:
    """The factor pair with the fewest values; also where one factor has a single row or column."""
    best: Kronecker | None = None
    if matrix.w.size < 16 or matrix.sparsity > 0.9:
        return None
    splits = _splits(matrix.k, matrix.n)
    if not len(splits):
        return None
    for (k1, n1), rank in zip(splits.tolist(), _ranks(matrix, splits), strict=True):
        blocks, elements = k1 * n1, matrix.w.size // (k1 * n1)
        size = int(rank) * (blocks + elements)
        # All of the sample may have a rank that says nothing.
        if rank > min(TERMS, min(blocks, elements) // 2) or 2 * size > matrix.w.size:
            continue
        if best is not None and size >= best.values:
            continue
        found = _factored(matrix, k1, n1, TERMS)
        if found is not None and (best is None or found.values < best.values):
            best = found
    return best


@cache
def _splits(k: int, n: int) -> np.ndarray:
    """(k1, n1) of all factor pairs [S, 2]; not where one factor is a number, nor where W would
    be an outer product, of rank 1."""
    found = []
    for k1, k2 in ((1, k), (k, 1), *pairs(k)):
        for n1, n2 in ((1, n), (n, 1), *pairs(n)):
            if min(k1 * n1, k2 * n2) >= 2 and not k1 == n2 == 1 and not k2 == n1 == 1:
                found.append((k1, n1))
    return np.array(found, np.int64).reshape(-1, 2)


def rearranged(w: np.ndarray, k1: int, n1: int) -> np.ndarray:
    """[k1 n1, k2 n2]: a row for every block."""
    k2, n2 = w.shape[0] // k1, w.shape[1] // n1
    return w.reshape(k1, k2, n1, n2).transpose(0, 2, 1, 3).reshape(k1 * n1, k2 * n2)


def _ranks(matrix: Matrix, splits: np.ndarray) -> np.ndarray:
    """Of some rows and columns of every rearrangement, those of the greatest element among them:
    i64 [S]."""
    k1, n1 = splits[:, :1], splits[:, 1:]
    k2, n2 = matrix.k // k1, matrix.n // n1
    row, column = matrix.pivot
    blocks = np.hstack((_picked((k1 * n1).ravel()), row // k2 * n1 + column // n2))
    inside = np.hstack((_picked((k2 * n2).ravel()), row % k2 * n2 + column % n2))
    i = (blocks // n1 * k2)[:, :, None] + (inside // n2)[:, None]
    j = (blocks % n1 * n2)[:, :, None] + (inside % n2)[:, None]
    values = np.linalg.svd(matrix.w[i, j].astype(np.float64), compute_uv=False)
    floor = 16 * TOLERANCE * np.maximum(values[:, :1], 1e-300)
    found: np.ndarray = (values > floor).sum(axis=1)
    return found


def _picked(sizes: np.ndarray) -> np.ndarray:
    """SAMPLE numbers below each size, different ones as far as there are: i64 [S, SAMPLE]."""
    return np.array([few(int(size), SAMPLE) for size in sizes])


def _factored(matrix: Matrix, k1: int, n1: int, terms: int) -> Kronecker | None:
    k2, n2 = matrix.k // k1, matrix.n // n1
    blocks = rearranged(matrix.w, k1, n1).astype(np.float64)
    # Cross approximation: the row and column of what is left of the greatest element each time.
    left, right = [], []
    rest = blocks.copy()
    for _ in range(terms):
        i, j = divmod(int(np.argmax(np.abs(rest))), rest.shape[1])
        if abs(rest[i, j]) <= TOLERANCE * np.abs(blocks).max():
            break
        left.append(rest[:, j] / rest[i, j])
        right.append(rest[i].copy())
        rest -= np.outer(left[-1], right[-1])
    if not left or np.linalg.norm(rest) > 64 * TOLERANCE * np.sqrt(matrix.energy):
        return None
    sides = np.stack(left, axis=1), np.stack(right)
    if np.linalg.norm(rest) > TOLERANCE / 4 * np.sqrt(matrix.energy):
        basis, _ = np.linalg.qr(sides[0])  # the best second side for the first, which is near
        sides = basis, basis.T @ blocks
        rest = blocks - sides[0] @ sides[1]
    error = float(np.linalg.norm(rest) / np.sqrt(matrix.energy))
    outer, inner = sides[0].T.reshape(-1, k1, n1), sides[1].reshape(-1, k2, n2)
    made = Kronecker(matrix.k, matrix.n, error, outer, inner)
    return made if error <= TOLERANCE and 2 * made.values <= matrix.w.size else None


DETECTORS = (Detector("Kronecker", find_kronecker, order=30),)

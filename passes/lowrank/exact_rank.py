"""Exact low rank, as columns of the matrix and how to mix the others from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy.linalg import lapack, lu_factor, qr, solve_triangular

from tilewright.passes.lowrank.numeric import RANK_TOLERANCE
from tilewright.passes.structure.found import TOLERANCE, Detector, Found
from tilewright.passes.structure.matrix import Matrix

MOST = 0.9
"""Greatest rank that is worth knowing, as a share of the shorter side."""

OVERSAMPLED = 16
"""Rows of the sketch beyond the rank that it is to find."""

PROBES = 10
"""Gaussian vectors of the posterior test."""


@dataclass(frozen=True, eq=False)
class ExactRank(Found):
    """W = W[:, columns] [I | mix], the interpolative form, with columns back in their order.

    columns: i64 [r]. mix: f64 [r, N - r], of the others in order. basis: W[:, columns].
    bound: of ||W - W'||_2 / ||W||_F with probability 1 - 1e-10 (Halko, Martinsson, Tropp 2011,
    lemma 4.1).
    """

    kind: ClassVar[str] = "low rank"
    product: ClassVar[bool] = True
    columns: np.ndarray
    mix: np.ndarray
    basis: np.ndarray
    bound: float

    @property
    def rank(self) -> int:
        """Columns that are kept."""
        return len(self.columns)

    @property
    def others(self) -> np.ndarray:
        """Columns that are mixed."""
        return np.setdiff1d(np.arange(self.n), self.columns)

    @property
    def right(self) -> np.ndarray:
        """R of W = C R: f64 [r, N] with identity columns."""
        made = np.zeros((self.rank, self.n))
        made[np.arange(self.rank), self.columns] = 1.0
        made[:, self.others] = self.mix
        return made

    @property
    def values(self) -> int:
        return self.rank * (self.k + self.n - self.rank)

    @property
    def index_bytes(self) -> int:
        return 4 * self.n

    @property
    def text(self) -> str:
        return f"rank {self.rank} of {min(self.k, self.n)}"

    def dense(self) -> np.ndarray:
        made: np.ndarray = self.basis.astype(np.float64) @ self.right
        return made


def find_rank(matrix: Matrix, most: int | None = None) -> ExactRank | None:
    """A rank of at most `most`, or of MOST of the shorter side.

    A random part of the matrix that is larger than such a rank is factored first: if it is regular,
    so is the answer. Then a sketch of doubling size is factored by QR with pivots, until the
    posterior test and the residual agree.
    """
    short = min(matrix.k, matrix.n)
    most = min(int(MOST * short), short if most is None else most)
    if most < 1 or _regular(matrix.w, most + 1):
        return None
    size = min(64, most)
    while True:
        found = _factored(matrix, size)
        if found is not None:
            return found
        if size == most:
            return None
        size = min(2 * size, most)


def _regular(w: np.ndarray, size: int) -> bool:
    """Whether a random size x size part of w surely has full rank (LU with pivots, its condition
    estimated by LAPACK's gecon)."""
    rng = np.random.default_rng(4)
    rows = np.sort(rng.choice(w.shape[0], size, replace=False))
    columns = np.sort(rng.choice(w.shape[1], size, replace=False))
    part = w[np.ix_(rows, columns)].astype(np.float64)
    norm = float(np.abs(part).sum(axis=0).max())
    if not norm:
        return False
    with np.errstate(all="ignore"):
        lu = _lu(part)
    if lu is None:
        return False
    reciprocal, _ = lapack.dgecon(lu, norm)
    return float(reciprocal) > 64 * RANK_TOLERANCE / size


def _lu(part: np.ndarray) -> np.ndarray | None:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # exact singularity is an answer
        lu: np.ndarray = lu_factor(part, check_finite=False)[0]
    return lu if np.diagonal(lu).all() else None


def _factored(matrix: Matrix, most: int) -> ExactRank | None:
    """The form of a rank up to `most`, if W has such a rank."""
    rng = np.random.default_rng(5)
    rows = min(most + OVERSAMPLED, matrix.k)
    probes = rng.standard_normal((rows, matrix.k)).astype(matrix.w.dtype)
    if rows == matrix.k:
        sketch = matrix.w.astype(np.float64)
    else:
        sketch = (probes @ matrix.w).astype(np.float64)
    _, r, order = qr(sketch, mode="economic", pivoting=True, check_finite=False)
    diagonal = np.abs(np.diagonal(r))
    rank = int(np.count_nonzero(diagonal > 4 * RANK_TOLERANCE * diagonal[0]))
    if rank > most:
        return None
    columns = np.sort(order[:rank])
    place = np.argsort(order[:rank], kind="stable")
    mix = solve_triangular(r[:rank, :rank], r[:rank, rank:], check_finite=False)[place]
    mix = mix[:, np.argsort(order[rank:], kind="stable")]
    basis = matrix.w[:, columns]
    made = ExactRank(matrix.k, matrix.n, 0.0, columns, mix, basis, 0.0)
    made = _refined(matrix, made)
    return made if made.residual <= TOLERANCE and made.bound <= TOLERANCE else None


def _refined(matrix: Matrix, made: ExactRank) -> ExactRank:
    """The mix by least squares on all of the columns instead of their sketch, with its errors."""
    basis = made.basis.astype(np.float64)
    q, r = qr(basis, mode="economic", check_finite=False)
    others = matrix.w[:, made.others].astype(np.float64)
    mix = solve_triangular(r, q.T @ others, check_finite=False)
    off = others - basis @ mix
    norm = float(np.sqrt(matrix.energy))
    probes = np.random.default_rng(6).standard_normal((off.shape[1], PROBES))
    seen = np.linalg.norm(off @ probes, axis=0).max(initial=0.0)
    bound = float(10 * np.sqrt(2 / np.pi) * seen / norm)
    error = float(np.linalg.norm(off) / norm)
    return ExactRank(made.k, made.n, error, made.columns, mix, made.basis, bound)


DETECTORS = (Detector("low rank", find_rank, order=40),)

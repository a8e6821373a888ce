"""Quasiseparable matrices: every block beside the diagonal has a small rank, as that of a sequence
mixer with a state (Hydra, Hwang et al. 2024) or of the inverse of a band."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from tilewright.passes.lowrank.numeric import RANK_TOLERANCE, numeric_rank
from tilewright.passes.structure.found import TOLERANCE, Detector, Found, residual
from tilewright.passes.structure.matrix import Matrix

SHARE = 8
"""The state is at most the size over this."""


@dataclass(frozen=True, eq=False)
class Quasiseparable(Found):
    """Below the diagonal, element (i, j) is out[i] A[i-1] .. A[j+1] into[j], and likewise above.

    below, above: generators of the two sides: (into [T, r], step [T, r, r], out [T, r]), f64, of
    the matrix and of its transpose. diagonal: f64 [T].
    """

    kind: ClassVar[str] = "quasiseparable"
    product: ClassVar[bool] = True
    below: tuple[np.ndarray, np.ndarray, np.ndarray]
    above: tuple[np.ndarray, np.ndarray, np.ndarray]
    diagonal: np.ndarray

    @property
    def states(self) -> tuple[int, int]:
        """Ranks of blocks below and above the diagonal."""
        return self.below[0].shape[1], self.above[0].shape[1]

    @property
    def values(self) -> int:
        return self.k + sum(self.k * (2 * r + r * r) for r in self.states)

    @property
    def text(self) -> str:
        lower, upper = self.states
        return f"states of {lower} below, {upper} above the diagonal"

    def dense(self) -> np.ndarray:
        made: np.ndarray = np.diag(self.diagonal) + _expanded(*self.below)
        made += _expanded(*self.above).T
        return made


def _expanded(into: np.ndarray, step: np.ndarray, out: np.ndarray) -> np.ndarray:
    size, rank = into.shape
    made = np.zeros((size, size))
    state = np.zeros((rank, size))  # of unit inputs so far
    for i in range(size):
        made[i] = out[i] @ state
        state = step[i] @ state
        state[:, i] = into[i]
    return made


def find_quasiseparable(matrix: Matrix) -> Quasiseparable | None:
    """Square; blocks below and above the diagonal have ranks up to 1/SHARE of the size, W itself
    has not, and no band explains it."""
    size = matrix.k
    if size != matrix.n or size < 16 or matrix.sparsity > 0.55:
        return None
    most = size // SHARE
    half = size // 2
    for block in (matrix.w[half:, :half], matrix.w[:half, half:]):
        if _sampled(block, most) > most:
            return None
    if _sampled(matrix.w, 2 * most + 1) <= 2 * most:
        return None  # of low rank as a whole
    wide = matrix.w.astype(np.float64)
    scale = float(np.linalg.norm(wide, 2))
    below, above = _generators(wide, most, scale), _generators(wide.T, most, scale)
    if below is None or above is None:
        return None
    made = Quasiseparable(size, size, 0.0, below, above, np.diag(wide).copy())
    error = residual(matrix, made.dense())
    if error > TOLERANCE or 2 * made.values > matrix.w.size:
        return None
    return Quasiseparable(size, size, error, below, above, made.diagonal)


def _sampled(block: np.ndarray, most: int) -> int:
    """Rank of evenly spread rows and columns, enough to tell ranks up to `most`."""
    rows = np.unique(np.linspace(0, block.shape[0] - 1, 2 * most + 2).astype(int))
    columns = np.unique(np.linspace(0, block.shape[1] - 1, 2 * most + 2).astype(int))
    return numeric_rank(block[np.ix_(rows, columns)], 4 * RANK_TOLERANCE)


def _generators(
    w: np.ndarray, most: int, scale: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Of the strictly lower part: at every i the rows below, over columns before i, have a basis
    that is carried on from i to i + 1 (Dewilde and van der Veen 1998, realization by SVD)."""
    size = len(w)
    floor = 4 * RANK_TOLERANCE * scale
    # states[i]: block w[i:, :i] = tail[i] head[i]; tail orthonormal columns times values.
    ranks, tails, heads = [0], [np.zeros((size, 0))], [np.zeros((0, 0))]
    for i in range(1, size):
        # w[i:, :i] = [tail without its first row | column i - 1] [head, unit]
        carried = np.hstack((tails[-1][1:], w[i:, i - 1 : i]))
        u, s, v = np.linalg.svd(carried, full_matrices=False)
        rank = int(np.count_nonzero(s > floor))
        if rank > most:
            return None
        ranks.append(rank)
        tails.append(u[:, :rank] * s[:rank])
        heads.append(v[:rank])  # [rank, rank before + 1]
    state = max(max(ranks), 1)
    into, step = np.zeros((size, state)), np.zeros((size, state, state))
    out = np.zeros((size, state))
    for i in range(1, size):
        before, now = ranks[i - 1], ranks[i]
        out[i, :now] = tails[i][0]
        step[i - 1, :now, :before] = heads[i][:, :before]
        into[i - 1, :now] = heads[i][:, before]
    return into, step, out


DETECTORS = (Detector("quasiseparable", find_quasiseparable, order=45),)

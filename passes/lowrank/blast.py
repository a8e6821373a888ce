"""BLAST matrices: blocks W_ij = B_i diag(s_ij) C_j with factors shared along rows and columns of
blocks (Lee et al. 2024)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from tilewright.compiler.formats.joint_bases import diagonalized, loop
from tilewright.passes.lowrank.numeric import RANK_TOLERANCE, sampled_rank
from tilewright.passes.structure.found import TOLERANCE, Detector, Found, residual
from tilewright.passes.structure.matrix import Matrix

PARTS = (2, 4, 8, 16)
SWEEPS = 200
"""Of alternating least squares at most, after the algebraic start, which is exact but for what its
inverses do to rounding."""


@dataclass(frozen=True, eq=False)
class Blast(Found):
    """left: f64 [b, K / b, r], middle: f64 [b, b, r], right: f64 [b, r, N / b]."""

    kind: ClassVar[str] = "BLAST"
    product: ClassVar[bool] = True
    left: np.ndarray
    middle: np.ndarray
    right: np.ndarray

    @property
    def rank(self) -> int:
        """r."""
        return int(self.middle.shape[2])

    @property
    def parts(self) -> int:
        """b."""
        return len(self.left)

    @property
    def values(self) -> int:
        return int(self.left.size + self.middle.size + self.right.size)

    @property
    def text(self) -> str:
        return f"{self.parts} x {self.parts} blocks, rank {self.rank}"

    def dense(self) -> np.ndarray:
        made: np.ndarray = np.einsum("ikr,ijr,jrn->ikjn", self.left, self.middle, self.right)
        return made.reshape(self.k, self.n)


def find_blast(matrix: Matrix) -> Blast | None:
    """The number of parts with the fewest values, of ranks up to the sides of a block.

    A row of blocks has the rank of its B_i and a column that of its C_j, which samples show. Where
    both are as large as a square block can have, blocks are tried for what diagonal middles mean:
    the products of `loop` commute.
    """
    if min(matrix.k, matrix.n) < 16 or matrix.sparsity > 0.5:
        return None
    best: Blast | None = None
    for b in PARTS:
        height, width = matrix.k // b, matrix.n // b
        if matrix.k % b or matrix.n % b or min(height, width) < 4:
            continue
        rank = _rank(matrix, height, width)
        if not rank or 1.5 * rank * (matrix.k + matrix.n + b * b) > matrix.w.size:
            continue
        if sampled_rank(matrix.w, rank) <= rank:
            return best  # of low rank as a whole: one part
        if rank == height == width and (b < 3 or not _commute(matrix.w, height)):
            continue
        found = _factored(matrix, b, rank)
        if found is not None and (best is None or found.values < best.values):
            best = found
    return best


def _rank(matrix: Matrix, height: int, width: int) -> int:
    """Of the first row and the first column of blocks, 0 if they differ."""
    most = min(height, width)
    # Of large blocks only ranks up to a half are looked for, by a part of that size.
    large = max(height, width) > 64 and sampled_rank(matrix.w[:height], min(most, 8)) > 8
    if large and sampled_rank(matrix.w[:height], most // 2) > most // 2:
        return 0
    rows = sampled_rank(matrix.w[:height], height)
    columns = sampled_rank(matrix.w[:, :width], width)
    return rows if rows == columns and rows <= most else 0


def _commute(w: np.ndarray, size: int) -> bool:
    """Whether two loops of the first blocks commute, up to what their inverses do to rounding."""
    block = [
        [w[i * size :, j * size :][:size, :size].astype(np.float64) for j in range(3)]
        for i in range(2)
    ]
    try:
        first = loop(block[0][0], block[1][0], block[1][1], block[0][1])
        second = loop(block[0][0], block[1][0], block[1][2], block[0][2])
    except np.linalg.LinAlgError:
        return False
    off = first @ second - second @ first
    return bool(np.linalg.norm(off) <= 1e-2 * np.linalg.norm(first @ second))


def _factored(matrix: Matrix, b: int, rank: int) -> Blast | None:
    blocks = matrix.w.astype(np.float64).reshape(b, matrix.k // b, b, matrix.n // b)
    started = diagonalized(blocks, rank, 4 * RANK_TOLERANCE)
    if started is None:
        return None
    made = Blast(matrix.k, matrix.n, 0.0, *started)
    error = residual(matrix, made.dense())
    for _ in range(SWEEPS):
        if error <= TOLERANCE / 4:
            break
        made = Blast(matrix.k, matrix.n, 0.0, *swept(blocks, made.left, made.middle, made.right))
        error = residual(matrix, made.dense())
    if error > TOLERANCE or 1.5 * made.values > matrix.w.size:
        return None
    return replace(made, residual=error)


def swept(
    blocks: np.ndarray, left: np.ndarray, middle: np.ndarray, right: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One sweep of alternating least squares over the three factors of [b, K/b, b, N/b]: the loss
    never grows."""
    b, _, _, _ = blocks.shape
    left = np.stack(
        [
            _solved(blocks[i].reshape(blocks.shape[1], -1), _mixed(middle[i], right))
            for i in range(b)
        ]
    )
    right = np.stack(
        [
            _solved(blocks[:, :, j].reshape(-1, blocks.shape[3]).T, _stacked(left, middle[:, j])).T
            for j in range(b)
        ]
    )
    scale = np.linalg.norm(right, axis=2, keepdims=True)
    right = right / np.maximum(scale, 1e-300)
    gram_left = np.einsum("ikr,iks->irs", left, left)
    gram_right = np.einsum("jrn,jsn->jrs", right, right)
    seen = np.einsum("ikr,ikjn,jrn->ijr", left, blocks, right, optimize=True)
    middle = np.stack(
        [
            [
                np.linalg.lstsq(gram_left[i] * gram_right[j], seen[i, j], rcond=1e-14)[0]
                for j in range(b)
            ]
            for i in range(b)
        ]
    )
    return left, middle, right


def _mixed(middle: np.ndarray, right: np.ndarray) -> np.ndarray:
    """[r, b N/b]: diag(s_ij) C_j side by side."""
    made: np.ndarray = (middle[:, :, None] * right).transpose(1, 0, 2)
    return made.reshape(made.shape[0], -1)


def _stacked(left: np.ndarray, middle: np.ndarray) -> np.ndarray:
    """[r, b K/b]: B_i diag(s_ij), transposed, side by side."""
    made: np.ndarray = (left * middle[:, None]).transpose(2, 0, 1)
    return made.reshape(made.shape[0], -1)


def _solved(target: np.ndarray, basis: np.ndarray) -> np.ndarray:
    """F with the least ||target - F basis||."""
    found: np.ndarray = np.linalg.lstsq(basis.T, target.T, rcond=1e-14)[0].T
    return found


DETECTORS = (Detector("BLAST", find_blast, order=46),)

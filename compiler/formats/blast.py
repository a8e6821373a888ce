"""BLAST weights: blocks that share factors along their row and their column of blocks (Lee et al.,
arXiv 2410.21262)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from tilewright.compiler.formats.blocked import (
    PARTITION,
    PARTS,
    Blocked,
    BlockFactors,
    damped,
)
from tilewright.compiler.formats.factored import energies
from tilewright.compiler.formats.inputs import Inputs
from tilewright.compiler.formats.joint_bases import diagonalized
from tilewright.compiler.formats.truncation import truncated

SWEEPS = 40
"""Of alternating least squares at most."""

ENOUGH = 1e-3
"""Share of the error by which a sweep must lower it for another one to follow."""

EXACT = 1e-4
"""Relative size of what is beyond the rank of a row or a column of blocks, of weights that have the
form exactly: those are decomposed by algebra, as least squares would take thousands of sweeps."""

RANKS = (32, 64, 128, 256, 512)


@dataclass(frozen=True)
class Blast(Blocked):
    """Blocks W_ij = B_i diag(s_ij) C_j: each part of X by B_i, sums of these with the weights s_ij
    for each part of Y, and each of them by C_j.

    With all s_ij = 1 that is low rank, from whose best in the metric of the inputs alternating
    least squares start: over all C_j, all s_ij, all B_i, each the exact minimum (the published
    method takes preconditioned gradient steps instead), so that the error is never above that of
    low rank.
    """

    mixed: ClassVar[bool] = True

    @property
    def name(self) -> str:
        return f"blast{self.parts}r{self.rank}-{self.part.name}"

    @property
    def structure(self) -> str:
        return "BLAST"

    def factors(self, w: np.ndarray, gram: np.ndarray | None) -> BlockFactors:
        return fitted(w, self.parts, self.rank, gram)

    def lost(self, weights: np.ndarray, inputs: Inputs, notes: dict[str, Any]) -> float:
        """GAINED of what low rank of that rank loses."""
        along = energies(weights, inputs, notes)
        whole = along.sum()
        return float(GAINED * along[self.rank :].sum() / whole) if whole else 0.0


GAINED = 0.9
"""The mean over products of MiniLM and codelm; between 0.67 and 1.05 at the bytes of `w4-g64`."""


def fitted(
    w: np.ndarray, p: int, rank: int, gram: np.ndarray | None, sweeps: int = SWEEPS
) -> BlockFactors:
    """Factors of W f64 [K, N] with p x p blocks; gram: X^T X, None: the identity."""
    start = truncated(w, rank, gram)
    own = start.left.shape[1]
    left, right = np.zeros((w.shape[0], rank)), np.zeros((rank, w.shape[1]))
    left[:, :own], right[:own] = start.left, start.right
    height, width = w.shape[0] // p, w.shape[1] // p
    made = BlockFactors(
        left.reshape(p, height, rank),
        np.ones((p, p, rank)),
        right.reshape(rank, p, width).transpose(1, 0, 2).copy(),
    )
    if p == 1:
        return made
    fit = _Fit(w, damped(gram, len(w)), p)
    state = fit.seen_by(made.left)
    whole, loss = fit.energy, fit.loss(made, state)
    planted = diagonalized(w.reshape(p, height, p, width), rank, EXACT)
    if planted is not None:
        exact = BlockFactors(*planted)
        if (now := fit.loss(exact, fit.seen_by(exact.left))) < loss:
            made, loss = exact, now
            state = fit.seen_by(made.left)
    for _ in range(sweeps):
        if loss <= 1e-12 * whole:
            break
        better, seen = fit.swept(made, state)
        now = fit.loss(better, seen)
        if now < loss:
            made, state = better, seen
        if now > (1 - ENOUGH) * loss:
            break
        loss = now
    return made


@dataclass(frozen=True, eq=False)
class _Seen:
    """What left factors B_i make of the metric G. along: G's columns of part i times B_i, f64
    [K, p, r]. normal: B_i^T G_iq B_q, [p, r, p, r]. towards: B_i^T (G W)_i, [p, r, N]."""

    along: np.ndarray
    normal: np.ndarray
    towards: np.ndarray


class _Fit:
    """W [K, N] as p x p blocks, in the metric G, which is definite."""

    def __init__(self, w: np.ndarray, gram: np.ndarray, p: int) -> None:
        self.w, self.gram, self.p = w, gram, p
        height, width = w.shape[0] // p, w.shape[1] // p
        self.seen = gram @ w
        self.energy = float(np.einsum("kn,kn->", w, self.seen))
        self.rows = [slice(i * height, (i + 1) * height) for i in range(p)]
        self.columns = [slice(j * width, (j + 1) * width) for j in range(p)]

    def seen_by(self, left: np.ndarray) -> _Seen:
        """Of left factors [p, K / p, r]."""
        parts = list(zip(left, self.rows, strict=True))
        along = np.stack([self.gram[:, own] @ b for b, own in parts], axis=1)
        normal = np.stack([np.tensordot(b.T, along[own], 1) for b, own in parts])
        return _Seen(along, normal, np.stack([b.T @ self.seen[own] for b, own in parts]))

    def loss(self, made: BlockFactors, seen: _Seen) -> float:
        """||X (W - W')||^2."""
        total = self.energy
        for j, c in enumerate(made.right):
            normal, towards = self._column(made, seen, j)
            total += float(np.einsum("rn,rn->", c, normal @ c - 2 * towards))
        return total

    def _column(self, made: BlockFactors, seen: _Seen, j: int) -> tuple[np.ndarray, np.ndarray]:
        """L^T G L and L^T G W_j of what part j's right factor is multiplied by."""
        assert made.middle is not None
        s = made.middle[:, j]
        normal = np.einsum("ir,irqt,qt->rt", s, seen.normal, s, optimize=True)
        return normal, np.einsum("ir,irn->rn", s, seen.towards[:, :, self.columns[j]])

    def swept(self, made: BlockFactors, seen: _Seen) -> tuple[BlockFactors, _Seen]:
        """All right factors, all middles, all left factors in turn."""
        rights = [_least(*self._column(made, seen, j)) for j in range(self.p)]
        made = BlockFactors(made.left, made.middle, np.stack(rights))
        made = BlockFactors(made.left, self._middles(made, seen), made.right)
        made = _balanced(BlockFactors(self._lefts(made, seen), made.middle, made.right))
        return made, self.seen_by(made.left)

    def _middles(self, made: BlockFactors, seen: _Seen) -> np.ndarray:
        p, _, rank = made.left.shape
        normal = seen.normal.reshape(p * rank, p * rank)
        found = np.empty((p, p, rank))
        for j, (columns, c) in enumerate(zip(self.columns, made.right, strict=True)):
            both = normal * np.tile(c @ c.T, (p, p))
            wanted = np.einsum("irn,rn->ir", seen.towards[:, :, columns], c)
            found[:, j] = _least(both, wanted.reshape(-1)).reshape(p, rank)
        return found

    def _lefts(self, made: BlockFactors, seen: _Seen) -> np.ndarray:
        """B_i - G_ii^-1 (gradient) (D_i D_i^T)^-1, one after the other, where W'_i = B_i D_i."""
        assert made.middle is not None
        left, along = made.left.copy(), seen.along.copy()
        d = [
            np.concatenate(list(own[:, :, None] * made.right), axis=-1)
            for own in (made.middle[i] for i in range(self.p))
        ]
        for i, own in enumerate(self.rows):
            rest = self.seen[own] @ d[i].T
            for q in range(self.p):
                rest -= along[own, q] @ (d[q] @ d[i].T)
            step = np.linalg.solve(self.gram[own, own], rest)
            left[i] += _least(d[i] @ d[i].T, step.T).T
            along[:, i] = self.gram[:, own] @ left[i]
        return left


def _least(normal: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The solution of normal equations, with a little on the diagonal where they are singular."""
    little = 1e-12 * np.trace(normal) / len(normal) + 1e-300
    found: np.ndarray = np.linalg.solve(normal + little * np.eye(len(normal)), wanted)
    return found


def _balanced(made: BlockFactors) -> BlockFactors:
    """The same product with columns of B_i and rows of C_j of norm 1."""
    assert made.middle is not None
    of_left = np.linalg.norm(made.left, axis=1)  # [p, rank]
    of_right = np.linalg.norm(made.right, axis=2)
    a, c = (np.where(size == 0, 1.0, size) for size in (of_left, of_right))
    middle = made.middle * a[:, None] * c[None]
    return BlockFactors(made.left / a[:, None], middle, made.right / c[..., None])


FORMATS = tuple(Blast(PARTITION, rank, part) for part in PARTS for rank in RANKS)

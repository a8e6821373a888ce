"""Monarch weights: every block has a low rank of its own (Dao et al., arXiv 2204.00595; with more
than one column a block, the block tensor trains of Qiu et al., 2406.06248)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from tilewright.compiler.formats.blocked import PARTITION, PARTS, Blocked, BlockFactors, damped
from tilewright.compiler.formats.inputs import Inputs
from tilewright.compiler.formats.null_models import rank_dropped
from tilewright.compiler.formats.truncation import truncated

SWEEPS = 3
"""Over all blocks, after the first projection."""

RANKS = (8, 16, 32, 64, 128)
"""Of a block: together PARTITION times as many numbers as low rank of that rank."""


@dataclass(frozen=True)
class Monarch(Blocked):
    """Blocks W_kj = B_kj C_kj of rank ``rank``: the left factor of part k of X is all B_kj side by
    side, the right factor of part j of Y is all C_kj one below the other, and between them what
    comes of X is put in another order.

    The plain projection is the singular value decomposition of every block, which is the nearest of
    the form. Under a metric each block is projected by its own part of the Gram matrix, and then
    again so that it makes up for what the other blocks of its column left: every step is the exact
    minimum over one block, so that errors never grow.
    """

    mixed: ClassVar[bool] = False

    @property
    def name(self) -> str:
        return f"m{self.parts}r{self.rank}-{self.part.name}"

    @property
    def structure(self) -> str:
        return "Monarch"

    def chance(self, k: int, n: int) -> float | None:
        return rank_dropped(self.rank, k // self.parts, n // self.parts)

    def factors(self, w: np.ndarray, gram: np.ndarray | None) -> BlockFactors:
        p, b = self.parts, self.rank
        gram = None if gram is None else damped(gram, len(w))
        height, width = w.shape[0] // p, w.shape[1] // p
        blocks = w.reshape(p, height, p, width).transpose(0, 2, 1, 3)
        own = _diagonal(gram, p)
        left, right = np.zeros((p, p, height, b)), np.zeros((p, p, b, width))

        def put(k: int, j: int, wanted: np.ndarray) -> None:
            found = truncated(wanted, b, own[k])
            r = found.left.shape[1]
            left[k, j, :, :r], right[k, j, :r] = found.left, found.right

        for k in range(p):
            for j in range(p):
                put(k, j, blocks[k, j])
        if gram is not None and p > 1:
            self._corrected(blocks, gram, left, right, put)
        return BlockFactors(
            left.transpose(0, 2, 1, 3).reshape(p, height, p * b),
            None,
            right.transpose(1, 0, 2, 3).reshape(p, p * b, width),
        )

    def _corrected(
        self, blocks: np.ndarray, gram: np.ndarray, left: np.ndarray, right: np.ndarray, put: Any
    ) -> None:
        p, _, height, width = blocks.shape
        inverses = [
            np.linalg.pinv(part, rcond=1e-10, hermitian=True) for part in _diagonal(gram, p)
        ]
        energy = np.square(blocks).sum()
        for j in range(p):
            rest = (blocks[:, j] - left[:, j] @ right[:, j]).reshape(p * height, width)
            loss = _loss(gram, rest)
            for _ in range(SWEEPS):
                kept = left[:, j].copy(), right[:, j].copy()
                if np.square(rest).sum() <= 1e-14 * energy:
                    break
                for k in range(p):
                    rows = slice(k * height, (k + 1) * height)
                    others = gram[rows] @ rest - gram[rows, rows] @ rest[rows]
                    put(k, j, blocks[k, j] + inverses[k] @ others)
                    rest[rows] = blocks[k, j] - left[k, j] @ right[k, j]
                now = _loss(gram, rest)
                if now >= loss:
                    left[:, j], right[:, j] = kept
                    break
                loss = now

    def lost(self, weights: np.ndarray, inputs: Inputs, notes: dict[str, Any]) -> float:
        """By the spectra of all blocks, which say it for every rank; what blocks of a column make
        up for each other is CORRECTED."""
        key = f"blocks of {self.parts}"
        if key not in notes:
            p, (k, n) = self.parts, weights.shape
            blocks = weights.astype(np.float64).reshape(p, k // p, p, n // p)
            notes[key] = sum(
                _energies(blocks[i, :, j], root)
                for i, root in enumerate(map(_root, _diagonal(inputs.metric, p)))
                for j in range(p)
            )
        energies = notes[key]
        whole = energies.sum()
        return float(CORRECTED * energies[self.rank :].sum() / whole) if whole else 0.0


CORRECTED = 0.7
"""Of the share that blocks lose apart from each other, what they lose together: the mean over
products of MiniLM and codelm."""


def _diagonal(gram: np.ndarray | None, p: int) -> list[Any]:
    """Blocks on the diagonal of the Gram matrix; None for each without one."""
    if gram is None:
        return [None] * p
    size = len(gram) // p
    return [gram[i * size : (i + 1) * size, i * size : (i + 1) * size] for i in range(p)]


def _root(gram: np.ndarray) -> np.ndarray:
    """R with R^T R the Gram matrix, which may be singular, and by rounding of sums a little less
    than that: a Cholesky factor need not exist."""
    energies, directions = np.linalg.eigh(gram)
    found: np.ndarray = np.sqrt(np.maximum(energies, 0))[:, None] * directions.T
    return found


def _energies(block: np.ndarray, root: np.ndarray) -> np.ndarray:
    """Squared singular values of root times block, falling: by the smaller of both products, a
    fraction of the time of a decomposition."""
    seen = root @ block
    small = seen @ seen.T if seen.shape[0] <= seen.shape[1] else seen.T @ seen
    found: np.ndarray = np.maximum(np.linalg.eigvalsh(small)[::-1], 0)
    return found


def _loss(gram: np.ndarray, rest: np.ndarray) -> float:
    return float(np.einsum("kn,kn->", rest, gram @ rest))


FORMATS = tuple(Monarch(PARTITION, rank, part) for part in PARTS for rank in RANKS)

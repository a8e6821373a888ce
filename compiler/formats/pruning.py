"""Which weights to leave out, and what becomes of the others: Wanda, SparseGPT, and their patterns.

Matrices are [K, N], as `WeightFormat` has them: a column is an output, n:m groups and the k of a
block lie along axis 0. A mask is True where a weight is kept.

Sun et al., "A Simple and Effective Pruning Approach for Large Language Models" (Wanda), arXiv
2306.11695; Frantar and Alistarh, "SparseGPT: Massive Language Models Can Be Accurately Pruned in
One-Shot", arXiv 2301.00774.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tilewright.compiler.formats.inputs import inverse_factor
from tilewright.compiler.formats.null_models import blocks_dropped, n_of_m

SLAB = 128
"""Channels whose weights are compared with each other where a pattern has no groups."""

Round = Callable[[int, np.ndarray], np.ndarray]
"""(channel, its weights [N]) -> the values that are stored in their place."""


class Pattern(ABC):
    """Which sets of weights may be left out. ``slab``: channels whose mask is chosen at a time."""

    slab = SLAB

    @property
    @abstractmethod
    def name(self) -> str:
        """A part of format names."""

    @property
    @abstractmethod
    def structure(self) -> str:
        """What it is called where its numbers do not matter."""

    @property
    @abstractmethod
    def chance(self) -> float:
        """The part of the energy of Gaussian noise that it leaves out."""

    @abstractmethod
    def mask(self, scores: np.ndarray) -> np.ndarray:
        """The best mask for scores [slab or fewer, N] of single weights, which add up."""

    def whole(self, scores: np.ndarray) -> np.ndarray:
        """`mask` of every slab of scores [K, N]."""
        parts = [self.mask(scores[i : i + self.slab]) for i in range(0, len(scores), self.slab)]
        return np.concatenate(parts) if parts else np.zeros(scores.shape, bool)

    def by_scores(self, scores: np.ndarray) -> np.ndarray:
        """The mask of [K, N] where nothing makes up for what is left out: `whole`, where a pattern
        does not compare the weights of each output by themselves, as Wanda does."""
        return self.whole(scores)

    def kept(self, k: int, n: int) -> int:
        """Most weights, of whole blocks, that are kept of [k, n]."""
        return sum(self._kept(min(self.slab, k - i), n) for i in range(0, k, self.slab))

    @abstractmethod
    def _kept(self, rows: int, n: int) -> int:
        """The same for a slab of ``rows`` channels."""


@dataclass(frozen=True)
class Unstructured(Pattern):
    """``percent`` of the weights of every slab, wherever they are."""

    percent: int

    @property
    def name(self) -> str:
        return f"s{self.percent}"

    @property
    def structure(self) -> str:
        return "zeros"

    @property
    def chance(self) -> float:
        return blocks_dropped(self.percent / 100, 1)

    def mask(self, scores: np.ndarray) -> np.ndarray:
        return largest(scores, self._kept(*scores.shape))

    def by_scores(self, scores: np.ndarray) -> np.ndarray:
        found = np.zeros(scores.shape, bool)
        best = np.argsort(-scores, axis=0, kind="stable")[: self.kept(len(scores), 1)]
        np.put_along_axis(found, best, True, axis=0)
        return found

    def _kept(self, rows: int, n: int) -> int:
        return rows * n * (100 - self.percent) // 100


@dataclass(frozen=True)
class Groups(Pattern):
    """At most ``most`` of every ``of`` channels in a row, for each output: 2:4 is what sparse
    tensor cores multiply."""

    most: int
    of: int

    @property
    def slab(self) -> int:  # type: ignore[override]
        return self.of

    @property
    def name(self) -> str:
        return f"{self.most}in{self.of}"

    @property
    def structure(self) -> str:
        return f"{self.most}:{self.of} zeros"

    @property
    def chance(self) -> float:
        return n_of_m(self.most, self.of)

    def mask(self, scores: np.ndarray) -> np.ndarray:
        order = np.argsort(-scores, axis=0, kind="stable")
        found = np.zeros(scores.shape, bool)
        np.put_along_axis(found, order[: self.most], True, axis=0)
        return found

    def _kept(self, rows: int, n: int) -> int:
        return min(rows, self.most) * n


@dataclass(frozen=True)
class Blocks(Pattern):
    """``percent`` of the blocks of ``deep`` channels by ``wide`` outputs of every slab, aligned to
    their size; those at the edges are smaller."""

    percent: int
    deep: int
    wide: int

    def __post_init__(self) -> None:
        if SLAB % self.deep:
            raise ValueError(f"blocks of {self.deep} channels: expected a divisor of {SLAB}")

    @property
    def name(self) -> str:
        return f"b{self.wide}x{self.deep}-s{self.percent}"

    @property
    def structure(self) -> str:
        return "blocks of zeros"

    @property
    def chance(self) -> float:
        return blocks_dropped(self.percent / 100, self.deep * self.wide)

    def mask(self, scores: np.ndarray) -> np.ndarray:
        rows, n = scores.shape
        sums = block_sums(scores, self.deep, self.wide)
        chosen = largest(sums, self._blocks(rows, n))
        spread = np.repeat(np.repeat(chosen, self.deep, axis=0), self.wide, axis=1)
        found: np.ndarray = spread[:rows, :n]
        return found

    def _blocks(self, rows: int, n: int) -> int:
        return -(-rows // self.deep) * -(-n // self.wide) * (100 - self.percent) // 100

    def _kept(self, rows: int, n: int) -> int:
        return self._blocks(rows, n) * self.deep * self.wide


def block_sums(scores: np.ndarray, deep: int, wide: int) -> np.ndarray:
    """Sums over blocks of [K, N], as if zeros filled it up: [ceil(K / deep), ceil(N / wide)]."""
    k, n = scores.shape
    rows, columns = -(-k // deep), -(-n // wide)
    filled = np.zeros((rows * deep, columns * wide), scores.dtype)
    filled[:k, :n] = scores
    found: np.ndarray = filled.reshape(rows, deep, columns, wide).sum(axis=(1, 3))
    return found


def largest(scores: np.ndarray, count: int) -> np.ndarray:
    """A mask of the ``count`` largest of all scores; of equal ones those that come first."""
    found = np.zeros(scores.size, bool)
    found[np.argsort(-scores, axis=None, kind="stable")[:count]] = True
    return found.reshape(scores.shape)


def wanda_scores(weights: np.ndarray, importance: np.ndarray) -> np.ndarray:
    """Squares of |w[k, n]| ||x_k||: f64 [K, N]. importance: mean of x_k^2, [K]."""
    found: np.ndarray = np.square(weights, dtype=np.float64) * importance[:, None]
    return found


def sparsegpt(
    weights: np.ndarray,
    gram: np.ndarray,
    pattern: Pattern | np.ndarray,
    rounding: Round | None = None,
    factor: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Values [K, N] that stand in for W, and which of them are kept: (f32, bool).

    Channel by channel, what is left out or rounded is made up for by the channels still to come.
    The mask of a slab is chosen when it is its turn, by what those before it have made of its
    weights: w^2 / U_kk^2, the loss of leaving it out. pattern: or the mask itself, which is kept.
    gram: X^T X, [K, K]; factor: `inverse_factor` of it, where it is known. A channel that was
    always 0 is left out where the mask is not given.
    """
    factor = inverse_factor(gram) if factor is None else factor
    left = weights.astype(factor.dtype)
    dead = np.diag(gram) == 0
    given = pattern if isinstance(pattern, np.ndarray) else None
    if given is None:
        left[dead] = 0
    values = np.zeros(weights.shape, np.float32)
    mask = np.zeros(weights.shape, bool) if given is None else given
    loss = np.diag(factor)[:, None]
    for begin in range(0, len(left), SLAB):
        end = min(begin + SLAB, len(left))
        errors = np.zeros((end - begin, left.shape[1]), left.dtype)
        for k in range(begin, end):
            slab = SLAB if isinstance(pattern, np.ndarray) else pattern.slab
            if not isinstance(pattern, np.ndarray) and (k - begin) % slab == 0:
                last = min(k + slab, len(left))
                mask[k:last] = pattern.mask((left[k:last] / loss[k:last]) ** 2)
            now = left[k]
            stored = np.where(mask[k], now if rounding is None else rounding(k, now), 0)
            values[k] = stored
            errors[k - begin] = (now - stored) / factor[k, k]
            left[k + 1 : end] -= np.outer(factor[k, k + 1 : end], errors[k - begin])
        left[end:] -= factor[begin:end, end:].T @ errors
    return values, mask

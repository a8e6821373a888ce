"""Numeric ranks: of small matrices from their singular values, of samples of large ones."""

from __future__ import annotations

from functools import cache

import numpy as np

from tilewright.passes.structure.found import TOLERANCE

RANK_TOLERANCE = TOLERANCE
"""Singular values below this share of the greatest are rounding."""


def numeric_rank(a: np.ndarray, tolerance: float = RANK_TOLERANCE) -> int:
    """Singular values above `tolerance` times the greatest; of a stack [.., R, C] the most."""
    values = np.linalg.svd(a.astype(np.float64), compute_uv=False)
    floor = tolerance * np.maximum(values[..., :1], 1e-300)
    return int((values > floor).sum(axis=-1).max(initial=0))


@cache
def few(size: int, count: int) -> tuple[int, ...]:
    """`count` numbers below `size`, chosen at random once and for all: different ones as far as
    there are."""
    rng = np.random.default_rng(size)
    found = rng.permutation(size) if size < 4096 else np.unique(rng.integers(0, size, 2 * count))
    return tuple(np.resize(rng.permutation(found), count).tolist())


def small_ranks(parts: list[np.ndarray], tolerance: float) -> np.ndarray:
    """Ranks of many small matrices at once, i64: all as large as the largest, padded by zeros."""
    if not parts:
        return np.zeros(0, np.int64)
    rows, columns = (max(p.shape[axis] for p in parts) for axis in (0, 1))
    stack = np.zeros((len(parts), rows, columns))
    for at, part in enumerate(parts):
        stack[at, : part.shape[0], : part.shape[1]] = part
    values = np.linalg.svd(stack, compute_uv=False)
    found: np.ndarray = (values > tolerance * np.maximum(values[:, :1], 1e-300)).sum(axis=1)
    return found


def sampled_rank(w: np.ndarray, most: int) -> int:
    """The rank of a random square part of `w`, large enough to tell ranks up to `most`: at most
    that of `w`, and for matrices in general position equal to it."""
    size = most + 1
    rng = np.random.default_rng(3)
    rows = _spread(rng, w.shape[0], size)
    columns = _spread(rng, w.shape[1], size)
    return numeric_rank(w[np.ix_(rows, columns)])


def _spread(rng: np.random.Generator, count: int, wanted: int) -> np.ndarray:
    if wanted >= count:
        return np.arange(count)
    return np.sort(rng.choice(count, wanted, replace=False))

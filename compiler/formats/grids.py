"""Scales and zero-points of integer codes: w = s (q - z), q in 0 .. 2^bits - 1."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

SHRINK = tuple(1 - i / 20 for i in range(10))
"""Shares of the full range that are tried; a smaller one clips the greatest weights."""

CHUNK = 1 << 16
"""Weights that are tried together: they stay in L2."""

TINY = 2.0**-120
"""Scales of columns of which no range is better than another."""


@dataclass(frozen=True, eq=False)
class Grid:
    """Of one group of each column: scales f32 [N] (values of f16 if `half`), zeros int32 [N]."""

    bits: int
    scales: np.ndarray
    zeros: np.ndarray

    def codes(self, w: np.ndarray) -> np.ndarray:
        """Codes int32 of weights [.., N], nearest, ties to even, clipped to the range."""
        with np.errstate(divide="ignore", invalid="ignore"):
            q = np.where(self.scales > 0, np.rint(w / self.scales), 0) + self.zeros
        found: np.ndarray = np.clip(q, 0, 2**self.bits - 1).astype(np.int32)
        return found

    def values(self, codes: np.ndarray) -> np.ndarray:
        """The weights that codes stand for, f32."""
        found: np.ndarray = (codes - self.zeros) * self.scales
        return found

    def rounded(self, w: np.ndarray) -> np.ndarray:
        """Weights [.., N] rounded to this grid, f32."""
        return self.values(self.codes(w))


def fit(
    w: np.ndarray, bits: int, symmetric: bool, half: bool, importance: np.ndarray | None = None
) -> Grid:
    """The grid of weights [G, N], one scale and zero a column: of all ranges that `SHRINK` allows
    the one with the least squared error, rows weighted by `importance` [G] (None: alike).

    symmetric: the zero is 2^(bits-1) and the range is even about it. half: scales are rounded to
    f16. A column of zeros has scale 0.
    """
    weight = np.ones(len(w)) if importance is None else importance / (importance.max() or 1.0)
    width = max(CHUNK // max(len(w), 1), 1)
    parts = [
        _fit(w[:, i : i + width], bits, symmetric, half, weight.astype(np.float32))
        for i in range(0, max(w.shape[1], 1), width)
    ]
    scales, zeros = (np.concatenate([getattr(p, f) for p in parts]) for f in ("scales", "zeros"))
    return Grid(bits, scales, zeros)


def _fit(w: np.ndarray, bits: int, symmetric: bool, half: bool, weight: np.ndarray) -> Grid:
    """`fit` of columns that stay in the cache."""
    w = np.ascontiguousarray(w, np.float32)
    low, high = w.min(axis=0, initial=0.0), w.max(axis=0, initial=0.0)
    if symmetric:
        high = np.maximum(high, -low)
    off = np.empty_like(w)
    best: Grid | None = None
    least = np.full(w.shape[1], np.inf)
    for share in SHRINK:
        grid = over(low * share, high * share, bits, symmetric, half)
        tiny = grid.scales < TINY
        inverse = np.where(tiny, 0, 1 / np.where(tiny, 1, grid.scales)).astype(np.float32)
        zeros = grid.zeros.astype(np.float32)
        np.multiply(w, inverse, out=off)
        np.rint(off, out=off)
        np.clip(off, -zeros, (2**bits - 1) - zeros, out=off)
        off *= grid.scales
        off -= w
        np.square(off, out=off)
        error = weight @ off
        if best is None:
            best, least = grid, error
            continue
        better = error < least
        least = np.where(better, error, least)
        scales = np.where(better, grid.scales, best.scales)
        best = Grid(bits, scales, np.where(better, grid.zeros, best.zeros))
    assert best is not None
    return best


def over(low: np.ndarray, high: np.ndarray, bits: int, symmetric: bool, half: bool) -> Grid:
    """The grid of columns whose weights go from low <= 0 to high >= 0, both [N]; as `fit` says."""
    top = 2**bits - 1
    if symmetric:
        scales = stored(high / np.float32(top // 2), half)
        return Grid(bits, scales, np.full(len(high), 2 ** (bits - 1), np.int32))
    scales = stored((high - low) / np.float32(top), half)
    with np.errstate(divide="ignore", invalid="ignore"):
        zeros = np.where(scales > 0, np.rint(-low / scales), 0)
    return Grid(bits, scales, np.clip(zeros, 0, top).astype(np.int32))


def stored(scales: np.ndarray, half: bool) -> np.ndarray:
    """Scales f32 as they are kept: rounded to f16 if `half`."""
    if half:  # the least normal f16, so that no scale underflows while its weights do not
        scales = np.where(scales > 0, np.maximum(scales, 2.0**-14), 0).astype(np.float16)
    found: np.ndarray = scales.astype(np.float32)
    return found

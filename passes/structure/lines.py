"""Vectors that are multiples of each other, found without comparing all pairs."""

from __future__ import annotations

import numpy as np

from tilewright.passes.structure.found import TOLERANCE

NEAR = 1e-5
"""Difference of two keys that proportional vectors of f32 numbers may have."""

COMPARED = 64
"""Vectors of one key that a further one is compared with."""


def representatives(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For every row of `vectors` [V, E] the first row that it is a multiple of, i64 [V], and the
    factor, f64 [V]. Zero rows stand for themselves, with factor 1.

    The key of a row is the angle of two random projections, taken modulo sign, so that multiples
    have the same; neighbours in its order are compared in full.
    """
    count, elements = vectors.shape
    of, factors = np.arange(count), np.ones(count)
    if count < 2 or not elements:
        return of, factors
    probes = np.random.default_rng(1).standard_normal((elements, 2)).astype(vectors.dtype)
    seen = vectors @ probes
    norms = np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64))
    live = norms > 0
    keys = np.arctan2(seen[:, 1], seen[:, 0]).astype(np.float64) % np.pi
    keys[np.pi - keys < NEAR] = 0.0  # both ends of the circle are one
    order = np.lexsort((np.arange(count), keys))
    order = order[live[order]]
    open_: list[int] = []
    gaps = np.diff(keys[order], prepend=-1.0) > NEAR
    follows = np.append(~gaps[1:], False) | ~gaps
    for at in np.flatnonzero(follows):
        row = int(order[at])
        if gaps[at]:
            open_ = [row]
            continue
        for first in open_:
            low, high = min(first, row), max(first, row)
            factor = _factor(vectors[low], vectors[high], norms[low], norms[high])
            if factor is None:
                continue
            if first == low:
                of[row], factors[row] = first, factor
            else:  # the row that comes first stands for the others
                _replace(of, factors, first, row, factor)
                open_[open_.index(first)] = row
            break
        else:
            open_ = [*open_[-COMPARED:], row]
    return of, factors


def _factor(a: np.ndarray, b: np.ndarray, norm_a: float, norm_b: float) -> float | None:
    """c with b = c a."""
    for sign in (1.0, -1.0):
        if np.array_equal(b[:64], sign * a[:64]) and np.array_equal(b, sign * a):
            return sign
    few = slice(0, 64)
    wide_a, wide_b = a[few].astype(np.float64), b[few].astype(np.float64)
    c = float(wide_a @ wide_b) / max(float(wide_a @ wide_a), 1e-300)
    far = np.abs(wide_b - c * wide_a).max() > 64 * TOLERANCE * max(np.abs(wide_b).max(), 1e-300)
    if far and wide_a.any():
        return None
    wide_a, wide_b = a.astype(np.float64), b.astype(np.float64)
    c = float(wide_a @ wide_b) / norm_a**2
    off = wide_b - c * wide_a
    return c if np.sqrt(float(off @ off)) <= TOLERANCE / 4 * norm_b else None


def _replace(of: np.ndarray, factors: np.ndarray, old: int, new: int, factor: float) -> None:
    """Make `new` the row that stands for all that `old` stood for; row old = factor * row new."""
    members = np.flatnonzero(of == old)
    of[members] = new
    factors[members] *= factor
    of[new], factors[new] = new, 1.0

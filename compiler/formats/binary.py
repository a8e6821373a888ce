"""Scales and signs of binary coding, w ~ sum of a_i b_i with b_i in {-1, 1}: alternating least
squares, nearest sums, and scales through a Gram matrix."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

ROUNDS = 12
"""Turns of scales and signs; the error hardly falls after these."""

CHUNK = 1 << 16
"""Weights that are fitted together: they stay in L2."""

_RIDGE = 1e-6
"""Of the diagonal, added to it: two planes may be the same."""

Stored = Callable[[np.ndarray], np.ndarray]
"""Scales rounded to what is stored, f32."""


def signs(codes: np.ndarray, bits: int) -> np.ndarray:
    """-1.0 and 1.0, f32 [bits, ...], of codes uint8."""
    planes = [(codes >> i & 1).astype(np.float32) for i in range(bits)]
    return np.stack(planes) * np.float32(2) - np.float32(1)


@dataclass(frozen=True, eq=False)
class Levels:
    """The values that the codes of a column stand for.

    They lie about 0 alike, so the upper half of them is enough: values f32 [2^(bits-1), N] in
    rising order, borders between them [one less, N], and their codes uint8. The code of -v is that
    of v with all bits turned.
    """

    bits: int
    values: np.ndarray
    borders: np.ndarray
    order: np.ndarray

    @staticmethod
    def of(scales: np.ndarray) -> Levels:
        """Of scales f32 [bits, N]."""
        bits = len(scales)
        every = np.arange(2**bits, dtype=np.uint8)
        sums = np.tensordot(signs(every, bits).T, scales, 1)
        order = np.argsort(sums, axis=0, kind="stable")[2 ** (bits - 1) :]
        values = np.take_along_axis(sums, order, 0)
        return Levels(bits, values, (values[1:] + values[:-1]) / 2, order.astype(np.uint8))

    def nearest(self, w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Codes uint8 and their values f32 of weights [N]."""
        size = np.abs(w)
        which = (size > self.borders).sum(axis=0)[None]
        codes = np.take_along_axis(self.order, which, 0)[0]
        values = np.take_along_axis(self.values, which, 0)[0]
        below = w < 0
        turned = codes ^ np.uint8(2**self.bits - 1)
        return np.where(below, turned, codes), np.where(below, -values, values)

    def codes(self, w: np.ndarray) -> np.ndarray:
        """Codes uint8 of weights [G, N]."""
        size = np.abs(w)
        which = np.zeros(w.shape, np.intp)
        for border in self.borders:
            which += size > border
        codes = np.take_along_axis(self.order, which, 0)
        found: np.ndarray = codes ^ np.where(w < 0, np.uint8(2**self.bits - 1), np.uint8(0))
        return found


def fit(w: np.ndarray, bits: int, energy: np.ndarray, stored: Stored) -> np.ndarray:
    """Scales f32 [bits, N] of a group of weights [G, N] with a small squared error, rows weighted
    by ``energy`` [G].

    Greedy planes first; then scales by least squares for the signs, and signs by the nearest sum
    for the scales, in turn. The best of all turns, as stored.
    """
    weight = (energy / energy.sum()).astype(np.float32)
    width = max(CHUNK // max(len(w), 1), 1)
    parts = [
        _fit(np.ascontiguousarray(w[:, i : i + width]), bits, weight, stored)
        for i in range(0, w.shape[1], width)
    ]
    return np.concatenate(parts, axis=1)


def _fit(w: np.ndarray, bits: int, weight: np.ndarray, stored: Stored) -> np.ndarray:
    left, greedy = w, []
    for _ in range(bits):
        greedy.append(weight @ np.abs(left))
        left = left - np.where(left < 0, -greedy[-1], greedy[-1])
    best = scales = stored(np.stack(greedy))
    least = np.full(w.shape[1], np.inf, np.float32)
    for turn in range(ROUNDS + 1):
        planes = signs(Levels.of(scales).codes(w), bits)
        off = w - np.einsum("ikn,in->kn", planes, scales)
        error = weight @ np.square(off)
        better = error < least
        least, best = np.where(better, error, least), np.where(better, scales, best)
        if bits == 1 or turn == ROUNDS:
            break
        weighted = planes * weight[:, None]
        square = np.einsum("ikn,jkn->nij", weighted, planes)
        scales = stored(np.abs(_solved(square, np.einsum("ikn,kn->ni", weighted, w)).T))
    return best


def _solved(square: np.ndarray, right: np.ndarray) -> np.ndarray:
    """x [N, bits] of square [N, bits, bits] x = right [N, bits]."""
    wide = square.astype(np.float64)
    diagonal = np.einsum("nii->ni", wide)
    diagonal += _RIDGE * diagonal + 1e-30
    found: np.ndarray = np.linalg.solve(wide, right.astype(np.float64)[..., None])[..., 0]
    return found


def refitted(
    w: np.ndarray, codes: np.ndarray, scales: np.ndarray, gram: np.ndarray, stored: Stored
) -> np.ndarray:
    """Scales f32 [G, bits, N] for given codes that lower ||X (W - W')||_F, group after group, with
    all others as they are; ``gram``: X^T X, f64 [K, K]. A column keeps scales that are better once
    they are stored.

    The block reparametrization of ShiftAddLLM (arXiv 2406.05981), which weighs errors of a block
    by its part of the Hessian; here what the other blocks leave counts too.
    """
    count, bits = scales.shape[:2]
    size = -(-len(w) // count)
    planes = signs(codes, bits)
    which = np.arange(len(w)) // size
    left = w - np.einsum("ikn,kin->kn", planes, scales[which])
    found = scales.copy()
    narrow = gram.astype(np.float32)
    for g in range(count):
        rows = slice(g * size, (g + 1) * size)
        here = planes[:, rows]
        pull = np.einsum("ikn,kn->ni", here, narrow[rows] @ left)
        square = np.einsum("ikn,jkn->nij", here, narrow[rows, rows] @ here)
        new = stored((found[g].T + _solved(square, pull)).T)
        step = new - found[g]
        gain = 2 * np.einsum("in,ni->n", step, pull) - np.einsum("in,nij,jn->n", step, square, step)
        step = np.where(gain > 0, step, 0)
        found[g] = np.where(gain > 0, new, found[g])
        left[rows] -= np.einsum("ikn,in->kn", here, step)
    return found

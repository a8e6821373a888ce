"""Monarch matrices: two block-diagonal factors around a permutation (Dao et al. 2022)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from tilewright.compiler.formats.null_models import slices_kept
from tilewright.passes.lowrank.numeric import few, small_ranks
from tilewright.passes.structure.divisors import pairs
from tilewright.passes.structure.found import TOLERANCE, Detector, Energy, Found, Gauge
from tilewright.passes.structure.matrix import Matrix

RANKS = 4
"""Greatest rank of the slices that is looked for."""

SAMPLE = 6
"""Rows and columns of a part: more than RANKS."""

Split = tuple[int, int, int, int]
"""(k, i, l, j): inputs are k x i, outputs l x j."""


@dataclass(frozen=True, eq=False)
class Monarch(Found):
    """With inputs seen as (k, i) and outputs as (l, j), the slice of every (j, k) has rank b:

        W[(k i), (l j)] = sum_b second[j, k, b, l] first[k, j, b, i]

    first: f64 [k, j, b, i], second: f64 [j, k, b, l]. split: (k, i, l, j). strided: whether inputs
    are (i, k) instead, outputs (j, l): `inputs`, `outputs`.
    """

    kind: ClassVar[str] = "Monarch"
    product: ClassVar[bool] = True
    inputs: bool
    outputs: bool
    first: np.ndarray
    second: np.ndarray

    @property
    def rank(self) -> int:
        """b."""
        return int(self.first.shape[2])

    @property
    def values(self) -> int:
        return int(self.first.size + self.second.size)

    @property
    def split(self) -> tuple[int, int, int, int]:
        """(k, i, l, j)."""
        k, j, _, i = self.first.shape
        return k, i, self.second.shape[3], j

    @property
    def text(self) -> str:
        k, i, l_, j = self.split
        ins = f"{i} x {k}" if self.inputs else f"{k} x {i}"
        outs = f"{j} x {l_}" if self.outputs else f"{l_} x {j}"
        return f"slices of rank {self.rank}, inputs {ins}, outputs {outs}"

    def dense(self) -> np.ndarray:
        made = np.einsum("jkbl,kjbi->kilj", self.second, self.first)
        if self.inputs:
            made = made.transpose(1, 0, 2, 3)
        if self.outputs:
            made = made.transpose(0, 1, 3, 2)
        whole: np.ndarray = made.reshape(self.k, self.n)
        return whole


def find_monarch(matrix: Matrix) -> Monarch | None:
    """The divisor pairs with the fewest values whose slices all have a rank up to RANKS."""
    if matrix.w.size < 64 or matrix.sparsity > 0.5:
        return None
    ways: list[tuple[Split, bool, bool]] = [
        ((k, i, l_, j), inputs, outputs)
        for k, i in pairs(matrix.k)
        for l_, j in pairs(matrix.n)
        if 4 * k * j * (i + l_) <= 2 * matrix.w.size and min(i, l_) > 1
        for inputs in (False, True)
        for outputs in (False, True)
    ]
    rng = np.random.default_rng(8)
    samples = [_sample(slices(matrix.w, *way), rng) for way in ways]
    best: Monarch | None = None
    for way, rank in zip(ways, small_ranks(samples, 16 * TOLERANCE), strict=True):
        (k, i, l_, j), inputs, outputs = way
        size = int(rank) * k * j * (i + l_)
        if not 0 < rank <= min(RANKS, min(i, l_) - 1) or 2 * size > matrix.w.size:
            continue
        if best is not None and size >= best.values:
            continue
        view = slices(matrix.w, *way)
        if small_ranks([_sample(view, rng) for _ in range(8)], 16 * TOLERANCE).max() > rank:
            continue
        best = _factored(matrix, (k, i, l_, j), inputs, outputs, int(rank)) or best
    return best


def slices(w: np.ndarray, split: Split, inputs: bool, outputs: bool) -> np.ndarray:
    """[j, k, l, i], a view."""
    k, i, l_, j = split
    rows, columns = (i, k) if inputs else (k, i), (j, l_) if outputs else (l_, j)
    seen = w.reshape(*rows, *columns)
    if inputs:
        seen = seen.transpose(1, 0, 2, 3)
    if outputs:
        seen = seen.transpose(0, 1, 3, 2)
    return seen.transpose(3, 0, 2, 1)


def _sample(view: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Part of a slice."""
    j, k, l_, i = view.shape
    rows, columns = few(l_, min(SAMPLE, l_)), few(i, min(SAMPLE, i))
    at = int(rng.integers(j)), int(rng.integers(k))
    part: np.ndarray = view[at][np.ix_(rows, columns)]
    return part.astype(np.float64)


def _factored(
    matrix: Matrix, split: Split, inputs: bool, outputs: bool, rank: int
) -> Monarch | None:
    view = slices(matrix.w, split, inputs, outputs).astype(np.float64)
    if rank == 1:
        crossed = _crossed(matrix, view, inputs, outputs)
        if crossed is not None:
            return crossed
    u, s, v = np.linalg.svd(view, full_matrices=False)
    off = float(np.sqrt(np.square(s[..., rank:]).sum() / matrix.energy))
    if off > TOLERANCE:
        return None
    root = np.sqrt(s[..., :rank])
    first = (v[..., :rank, :] * root[..., None]).transpose(1, 0, 2, 3)
    second = (u[..., :rank] * root[..., None, :]).swapaxes(-1, -2)
    return Monarch(matrix.k, matrix.n, off, inputs, outputs, first, second)


def _crossed(matrix: Matrix, view: np.ndarray, inputs: bool, outputs: bool) -> Monarch | None:
    """Slices of rank 1 by the row, as it is, and the column of their greatest elements."""
    j, k, _, i = view.shape
    flat = np.abs(view).reshape(j, k, -1).argmax(axis=2)
    at = np.ix_(np.arange(j), np.arange(k))
    row = view[(*at, flat // i)]  # [j, k, i]
    pivot = np.take_along_axis(row, (flat % i)[..., None], 2)
    column = np.take_along_axis(view, (flat % i)[..., None, None], 3)[..., 0]
    column = column / np.where(pivot == 0, 1.0, pivot)
    off = np.linalg.norm(view - column[..., None] * row[:, :, None])
    error = float(off / np.sqrt(matrix.energy))
    if error > TOLERANCE / 4:
        return None
    first, second = row.transpose(1, 0, 2)[:, :, None], column[:, :, None]
    return Monarch(matrix.k, matrix.n, error, inputs, outputs, first, second)


def measure_monarch(matrix: Matrix) -> Energy | None:
    """What is lost by slices of rank 1 at the split nearest to square, on 32 slices."""
    if min(matrix.k, matrix.n) < 64:
        return None
    ways = [_square(matrix.k), _square(matrix.n)]
    if None in ways:
        return None
    (k, i), (l_, j) = ways  # type: ignore[misc]
    if min(i, l_) < 4:
        return None
    view = slices(matrix.w, (k, i, l_, j), False, False)
    rng = np.random.default_rng(9)
    few = view[rng.integers(0, j, 32), rng.integers(0, k, 32)].astype(np.float64)
    s = np.square(np.linalg.svd(few, compute_uv=False))
    if not s.sum():
        return None
    lost = float(s[:, 1:].sum() / s.sum())
    text = f"rank 1 of {l_} x {i}"
    return Energy("Monarch", text, lost, 1 - slices_kept(l_, i))


def _square(size: int) -> tuple[int, int] | None:
    found = pairs(size)
    return min(found, key=lambda p: abs(p[0] - p[1])) if found else None


DETECTORS = (Detector("Monarch", find_monarch, order=31),)
GAUGES = (Gauge("Monarch", measure_monarch),)

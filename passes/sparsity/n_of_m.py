"""N:M sparsity: at most N numbers of every M neighbours along K, for one output."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from tilewright.compiler.formats.null_models import n_of_m
from tilewright.passes.structure.found import Detector, Energy, Found, Gauge
from tilewright.passes.structure.matrix import Matrix

RATIOS = ((1, 4), (1, 2), (2, 4), (4, 8))
"""(N, M), those that keep the least first."""

ENOUGH = 16
"""Groups below which a pattern may be chance."""

SEEN = 1 << 18
"""Elements whose energy stands for that of all, in groups evenly spread."""

FULL = 0.8
"""Share of the places of a pattern that numbers have; where fewer have, it is another one."""


@dataclass(frozen=True, eq=False)
class NOfM(Found):
    """At most `kept` of every `group` rows of a column; the last group may be shorter."""

    kind: ClassVar[str] = "N:M"
    kept: int
    group: int
    weights: np.ndarray

    @property
    def groups(self) -> int:
        """Of all columns."""
        return -(-self.k // self.group) * self.n

    @property
    def values(self) -> int:
        return self.groups * self.kept

    @property
    def index_bytes(self) -> int:
        bits = max(self.group - 1, 1).bit_length()
        return -(-self.values * bits // 8)

    @property
    def text(self) -> str:
        return f"{self.kept}:{self.group}"

    def dense(self) -> np.ndarray:
        made: np.ndarray = self.weights.astype(np.float64)
        return made


def grouped(w: np.ndarray, group: int) -> np.ndarray:
    """[groups, group, N], padded by zeros."""
    padded = np.pad(w, ((0, -len(w) % group), (0, 0))) if len(w) % group else w
    return padded.reshape(-1, group, w.shape[1])


def find_n_of_m(matrix: Matrix) -> NOfM | None:
    """The first of RATIOS that every group keeps and that is nearly FULL."""
    for kept, group in RATIOS:
        if matrix.sparsity < 0.9 * (1 - kept / group) or matrix.k < group:
            continue
        if matrix.k * matrix.n < ENOUGH * group:
            continue
        if 1 - matrix.sparsity < FULL * kept / group:
            continue
        counts = np.count_nonzero(grouped(matrix.nonzero, group), axis=1)
        if counts.max() <= kept:
            return NOfM(matrix.k, matrix.n, 0.0, kept, group, matrix.w)
    return None


def measure_n_of_m(matrix: Matrix) -> Energy | None:
    """What 2:4 along K loses."""
    if matrix.k < 8 or matrix.w.size < 4096:
        return None
    groups = matrix.w[: matrix.k - matrix.k % 4].reshape(-1, 4, matrix.n)
    step = max(1, matrix.w.size // SEEN)
    if 16 * step <= len(groups):
        groups = groups[::step]
    squares = np.square(groups)
    total = float(squares.sum(dtype=np.float64))
    squares.partition(1, axis=1)
    lost = float(squares[:, :2].sum(dtype=np.float64))
    return Energy("2:4", "2 of 4 along K", lost / max(total, 1e-300), n_of_m(2, 4))


DETECTORS = (Detector("N:M", find_n_of_m, order=12),)
GAUGES = (Gauge("2:4", measure_n_of_m),)

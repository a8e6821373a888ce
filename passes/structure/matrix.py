"""A matrix of weights with what several detectors want to know of it."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from tilewright.compiler.formats.inputs import Inputs

SAMPLES = 64
"""Elements at which a structure is tried before all of a matrix is looked at."""


class Matrix:
    """W [K, N] of the product X W: f32 or f64, a view where possible. What is derived is computed
    when it is first asked for. inputs: what calibration saw of X."""

    def __init__(self, w: np.ndarray, inputs: Inputs | None = None) -> None:
        if w.ndim != 2:
            raise ValueError(f"a matrix has two axes, found {w.ndim}")
        self.w = w if w.dtype in (np.float32, np.float64) else w.astype(np.float32)
        self.inputs = inputs

    @property
    def k(self) -> int:
        """Rows: the elements of a row of X."""
        return int(self.w.shape[0])

    @property
    def n(self) -> int:
        """Columns: the elements of a row of the product."""
        return int(self.w.shape[1])

    @cached_property
    def energy(self) -> float:
        """Sum of squares, f64; NaN or infinite if an element is."""
        with np.errstate(over="ignore", invalid="ignore"):
            return float(sum(np.einsum("ij,ij->", p, p) for p in self.parts()))

    def parts(self) -> list[np.ndarray]:
        """Runs of rows as f64, small enough for the cache."""
        step = max(1, (1 << 17) // max(self.n, 1))
        return [self.w[i : i + step].astype(np.float64) for i in range(0, self.k, step)]

    @cached_property
    def usable(self) -> bool:
        """Whether there are elements, and all of them are numbers."""
        return self.w.size > 0 and bool(np.isfinite(self.energy))

    @cached_property
    def nonzero(self) -> np.ndarray:
        """Which elements are not zero (negative zeros are zeros): bool [K, N]."""
        return np.asarray(self.w != 0)

    @cached_property
    def zeros(self) -> int:
        """How many elements are zero."""
        return int(self.w.size - np.count_nonzero(self.w))

    @cached_property
    def rows(self) -> np.ndarray:
        """Elements that are not zero in each row, i64 [K]."""
        return np.count_nonzero(self.nonzero, axis=1) if self.zeros else np.full(self.k, self.n)

    @cached_property
    def columns(self) -> np.ndarray:
        """Elements that are not zero in each column, i64 [N]."""
        return np.count_nonzero(self.nonzero, axis=0) if self.zeros else np.full(self.n, self.k)

    @property
    def sparsity(self) -> float:
        """Share of the elements that are zero."""
        return self.zeros / self.w.size

    @cached_property
    def spots(self) -> tuple[np.ndarray, np.ndarray]:
        """Rows and columns of some elements, half of them not zero where possible."""
        rng = np.random.default_rng(0)
        i, j = rng.integers(0, self.k, SAMPLES), rng.integers(0, self.n, SAMPLES)
        if self.zeros and self.zeros < self.w.size:
            full = rng.choice(np.flatnonzero(self.rows), SAMPLES // 2)
            i[: SAMPLES // 2] = full
            for at, row in enumerate(full):
                j[at] = rng.choice(np.flatnonzero(self.nonzero[row]))
        return i, j

    @cached_property
    def pivot(self) -> tuple[int, int]:
        """Where the element of the greatest magnitude is."""
        row, column = divmod(int(np.argmax(np.abs(self.w))), self.n)
        return row, column

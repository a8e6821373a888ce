"""Weights that several layers have in common: equal, equal up to a factor, or transposed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from tilewright.passes.structure.found import TOLERANCE


@dataclass(frozen=True)
class Shared:
    """weight = factor * first (transposed, where it is said)."""

    weight: str
    first: str
    factor: float
    transposed: bool

    @property
    def text(self) -> str:
        """In words."""
        turned = " transposed" if self.transposed else ""
        times = "" if self.factor == 1 else f"{self.factor:g} x "
        return f"{times}{self.first}{turned}"


def find_shared(matrices: Mapping[str, np.ndarray]) -> list[Shared]:
    """Matrices that are multiples of earlier ones, in order.

    Candidates agree in shape and in a few elements divided by the first of these; then all are
    compared. Zero and constant matrices, which are so by themselves, are left out.
    """
    found: list[Shared] = []
    firsts: dict[tuple[int, ...], list[tuple[str, np.ndarray]]] = {}
    for name, w in matrices.items():
        if w.ndim != 2 or w.size < 16 or not np.isfinite(w[0]).all() or np.ptp(w[:2]) == 0:
            continue
        known = firsts.setdefault(tuple(sorted(w.shape)), [])
        for first, other in known:
            match = _matched(first, other, name, w)
            if match is not None:
                found.append(match)
                break
        else:
            known.append((name, w))
    return found


def _matched(first: str, a: np.ndarray, name: str, b: np.ndarray) -> Shared | None:
    if a is b:
        return None
    for transposed in (False, True):
        base = a.T if transposed else a
        if base.shape != b.shape:
            continue
        factor = _factor(base, b)
        if factor is not None:
            return Shared(name, first, factor, transposed)
    return None


def _factor(a: np.ndarray, b: np.ndarray) -> float | None:
    rng = np.random.default_rng(12)
    i, j = rng.integers(0, a.shape[0], 32), rng.integers(0, a.shape[1], 32)
    few_a, few_b = a[i, j].astype(np.float64), b[i, j].astype(np.float64)
    top = int(np.argmax(np.abs(few_a)))
    if not few_a[top]:
        return None
    factor = few_b[top] / few_a[top]
    if not factor or np.abs(few_b - factor * few_a).max() > TOLERANCE * abs(few_b[top]):
        return None
    if np.array_equal(a, b):
        return 1.0
    if factor == 1:
        return None
    with np.errstate(over="ignore", invalid="ignore"):
        off = np.abs(b - np.float32(factor) * a).max()
    return float(factor) if off <= 2 * TOLERANCE * np.abs(b).max() else None

"""Scales that make up for what rounding did: those that fit the product best for given codes.

GPTQ takes scales as given and shifts errors among codes; what is left has a part along the codes of
every group, which another scale takes away. It costs nothing at run time, and is what remains of
ABQ-LLM's correction of distributions (arXiv 2408.08554) without its training.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tilewright.compiler.formats.inputs import DAMP

RIDGE = 1e-6
"""Share of its diagonal that is added to a singular system: groups of codes that are all zero."""


def corrected(
    w: np.ndarray,
    steps: np.ndarray,
    scales: np.ndarray,
    size: int,
    gram: np.ndarray,
    stored: Callable[[np.ndarray], np.ndarray],
) -> np.ndarray:
    """Scales f32 [G, N] that minimize ||X (W - s steps)||_F for each column of W f32 [K, N] by
    itself, over all its groups of ``size`` rows together.

    steps: codes less zero-points, f32 [K, N]. gram: X^T X f64 [K, K], damped as GPTQ damps it.
    stored: rounds scales to what is stored. A column keeps its scales where new ones, once stored,
    are not better or not positive.
    """
    count, n = scales.shape
    begins = np.arange(0, len(w), size)
    damped = (gram + np.eye(len(w)) * (DAMP * np.mean(np.diag(gram)))).astype(np.float32)
    pull = np.add.reduceat(steps * (damped @ w), begins, axis=0)
    square = np.empty((n, count, count))
    for j, begin in enumerate(begins):
        rows = slice(begin, begin + size)
        moved = steps * (damped[:, rows] @ steps[rows])
        square[:, :, j] = np.add.reduceat(moved, begins, axis=0).T
    diagonal = np.einsum("nii->ni", square)
    diagonal += RIDGE * diagonal.mean(axis=1, keepdims=True) + np.finfo(np.float64).tiny
    found = np.linalg.solve(square, pull.T.astype(np.float64)[..., None])[..., 0].T
    new = stored(np.where(found > 0, found, scales).astype(np.float32))

    def left(of: np.ndarray) -> np.ndarray:
        """Squared errors of columns, but for what no scale changes."""
        quadratic = np.einsum("gn,ngh,hn->n", of, square, of, optimize=True)
        return np.asarray(quadratic - 2 * np.einsum("gn,gn->n", of, pull))

    return np.where(left(new) < left(scales), new, scales)

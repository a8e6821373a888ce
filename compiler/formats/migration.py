"""Factors of channels: how much of what makes a channel hard to round its weights take over.

X W = (X m) (W / m). SmoothQuant (Xiao et al., arXiv 2211.10438) takes m = w^(1-a) / x^a, x and w
the greatest magnitudes of the channel in X and W; here a is the one of a grid with the least
predicted error, and m = 1 where none is better. With steps that calibration fixes, a = 1 is
MergeQuant (arXiv 2503.07654): every channel has its own step.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tilewright.compiler.formats.hadamard import rotated
from tilewright.compiler.formats.inputs import DAMP, Inputs

ALPHAS = tuple(i / 10 for i in range(1, 11))
"""Exponents that are tried."""

CLIPS = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5)
"""Shares of what calibration saw that fixed steps reach."""

QUIET = 64
"""Channels less than the mean by more than this count as that large: they may grow elsewhere."""

ROWS = 128
"""Rows of the sample that factors are tried on, evenly chosen."""

MOST = 127.0
TWELFTH = 1 / 12
"""Variance of an error of rounding, in steps."""


def factors(weights: np.ndarray, inputs: Inputs, block: int = 1) -> np.ndarray:
    """m f32 [K] for 8-bit codes of X m, rotated by ``block`` channels, with a step a row."""
    rows = _rows(inputs)

    def error(m: np.ndarray) -> float:
        steps = np.abs(rotated(rows * m, block)).max(axis=1, initial=0) / MOST
        return _sums(weights, inputs, m, block, float(np.mean(steps.astype(np.float64) ** 2)))

    return min(_shapes(weights, inputs), key=error)


def fixed_factors(weights: np.ndarray, inputs: Inputs) -> np.ndarray:
    """m f32 [K], with which X m is rounded to integers: a step a channel, the same for all rows.

    The exponent is chosen for steps that reach all that calibration saw, then which share of that
    they reach. With fixed steps errors of X are no noise, as small values become zeros and great
    ones are cut off: they are multiplied by W, of all rows of the sample, since few make most.
    """
    rows = inputs.sample if len(inputs.sample) else inputs.absmax[None]

    def scaled(shape: np.ndarray) -> np.ndarray:
        most = float(np.max(inputs.absmax * shape, initial=0))
        return (shape * (MOST / most)).astype(np.float32) if most else shape

    def error(m: np.ndarray) -> float:
        moved = rows * m
        off = ((np.rint(moved).clip(-MOST, MOST) - moved) / m) @ weights
        lost = float(np.sum(off.astype(np.float64) ** 2)) / max(len(rows), 1)
        return lost + _sums(weights, inputs, m, 1, 0.0)

    whole = min(map(scaled, _shapes(weights, inputs)), key=error)
    if not inputs.absmax.any():
        return whole
    return min((whole / np.float32(clip) for clip in CLIPS), key=error)


def _rows(inputs: Inputs) -> np.ndarray:
    sample = inputs.sample
    return sample[:: max(len(sample) // ROWS, 1)] if len(sample) else inputs.absmax[None]


def _sums(weights: np.ndarray, inputs: Inputs, m: np.ndarray, block: int, step: float) -> float:
    """Mean squared error of a row of the result, of rounding X m by a squared step and W / m by
    columns. GPTQ leaves of a channel's error what the channels behind it cannot make up for: the
    Gram matrix's diagonal given those, which the factor has; m scales it."""
    w = weights / m[:, None]
    greatest = np.abs(rotated(np.ascontiguousarray(w.T), block)).max(axis=1, initial=0) / block
    columns = float(np.sum((greatest.astype(np.float64) / MOST) ** 2))
    energy = float(np.sum(w.astype(np.float64) ** 2)) / block
    given = np.empty(len(m))
    given[inputs.order] = np.diag(inputs.factor).astype(np.float64) ** -2.0
    given *= (1 + DAMP) * float(inputs.importance.mean())  # the factor is of numbers near 1
    size = block * float(given @ m.astype(np.float64) ** 2)
    return TWELFTH * (step * energy + columns * size)


def _shapes(weights: np.ndarray, inputs: Inputs) -> Iterator[np.ndarray]:
    """Ones, then m of every exponent, of geometric mean 1; f32 [K]."""
    yield np.ones(len(weights), np.float32)
    x, w = inputs.absmax.astype(np.float64), np.abs(weights).max(axis=1).astype(np.float64)
    if not x.any() or not w.any():
        return
    x, w = (np.log(np.maximum(v, v.mean() / QUIET)) for v in (x, w))
    for a in ALPHAS:
        exponent = (1 - a) * w - a * x
        yield np.exp(exponent - exponent.mean()).astype(np.float32)

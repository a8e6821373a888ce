"""What i.i.d. Gaussian weights would lose: shares of ||W||_F^2, by formula.

A structure is one only if a matrix loses clearly less than this.
"""

from __future__ import annotations

from functools import cache
from math import comb, pi, sqrt

import numpy as np


def blocks_dropped(share: float, elements: int) -> float:
    """The weakest `share` of all blocks of so many elements.

    Energies of blocks are chi-squared with `elements` degrees of freedom, whose partial mean is
    that of two degrees more: E[x; x <= t] = f F_{f+2}(t). elements = 1: unstructured.
    """
    from scipy.stats import chi2

    if share <= 0:
        return 0.0
    return float(chi2.cdf(chi2.ppf(share, elements), elements + 2))


@cache
def n_of_m(kept: int, group: int) -> float:
    """All but the `kept` greatest of every `group` elements.

    An element at quantile u of its magnitude is among the dropped with the probability that at most
    group - kept - 1 of the others are smaller; integrated by Gauss-Legendre in the quantile.
    """
    from scipy.stats import norm

    nodes, weights = np.polynomial.legendre.leggauss(400)
    u = (nodes + 1) / 2
    others, dropped = group - 1, group - kept
    chance = sum(comb(others, i) * u**i * (1 - u) ** (others - i) for i in range(dropped))
    return float(np.sum(weights / 2 * norm.ppf((1 + u) / 2) ** 2 * chance))


@cache
def rank_dropped(rank: int, k: int, n: int) -> float:
    """All but the `rank` greatest singular values of a k x n matrix (Marchenko and Pastur 1967).

    Squared singular values of G / sqrt(long side) have, with beta = short / long, the density
    sqrt((b - x)(x - a)) / (2 pi beta x) on [a, b] = (1 -+ sqrt(beta))^2, and mean 1.
    """
    short, long = min(k, n), max(k, n)
    if rank >= short:
        return 0.0
    beta = short / long
    low, high = (1 - sqrt(beta)) ** 2, (1 + sqrt(beta)) ** 2
    # x = middle - half cos t: the square roots at both ends become smooth.
    t = (np.arange(4096) + 0.5) / 4096 * pi
    half = (high - low) / 2
    x = (low + high) / 2 - half * np.cos(t)
    energy = half**2 * np.sin(t) ** 2 / (2 * pi * beta) * (pi / 4096)
    count = energy / x
    below = np.cumsum(count)
    share = 1 - rank / short
    return float(np.interp(share * below[-1], below, np.cumsum(energy)) / energy.sum())


def slices_kept(rows: int, columns: int) -> float:
    """Energy of the greatest singular value of a rows x columns slice: (sqrt(r) + sqrt(c))^2 of
    r c, the edge of the spectrum."""
    return min(1.0, (sqrt(rows) + sqrt(columns)) ** 2 / (rows * columns))

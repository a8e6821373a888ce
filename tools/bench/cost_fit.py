"""Fitting the cost model's constants to measured launches, and how well it predicts others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from math import exp, log
from statistics import median
from typing import Any

import numpy as np
from scipy.optimize import least_squares
from scipy.stats import kendalltau, spearmanr

from tilewright.backends.cost.model import of_cost
from tilewright.backends.kernels.family import Cost
from tilewright.backends.profile import Fit, MachineProfile

ALONE = ("stream", "far", "store", "overlap", "block_ns", "convert", "epilogue", "launch_ns")
"""Fields of Fit that are fitted to launches on one thread, besides the rate of each unit."""

TOGETHER = ("together", "far_together", "region")
"""Fields of Fit that are fitted to launches on several."""

MOST_OVERLAP = 2.2
"""Of the exponent: nearer to a maximum nothing but the longest part counts, and the bandwidths of
the others are not determined by the points (`far` went to its bound)."""

APART = 2.0
"""Weight of a kernel's error beside that of the others of its shape."""


@dataclass(frozen=True)
class Point:
    """A measured launch: the choice it belongs to, the kernel, its accuracy class, its work."""

    shape: str
    kernel: str
    family: str
    accuracy: float
    cost: Cost
    units: int
    seconds: float
    threads: int = 1

    def predicted(self, profile: MachineProfile) -> float:
        """Seconds that the model gives with cold weights."""
        return of_cost(self.cost, self.units, profile, self.threads, family=self.family).seconds


@dataclass(frozen=True)
class Quality:
    """``regret``: geometric mean over choices of time of the kernel predicted fastest by time of
    the fastest; ``worst`` of them. ``error``: geometric mean of max(predicted / measured, its
    inverse)."""

    points: int
    spearman: float
    kendall: float
    choices: int
    regret: float
    worst: float
    worst_choice: str
    error: float


def fit(points: Sequence[Point], profile: MachineProfile) -> Fit:
    """Constants that minimize the squared logarithm of predicted / measured, and APART times what
    of it is not common to the kernels of a shape; outliers damped.

    First those of ALONE and the rates on the points of one thread; then, with these, the factor of
    each family, the median of its points; then those of TOGETHER on the points of several threads,
    where there are any.
    """
    alone = [p for p in points if p.threads == 1]
    units = sorted({p.cost.unit for p in alone})
    base = Fit()
    profile = replace(profile, fit=replace(profile.fit, family={}))

    def one_thread(values: Sequence[float]) -> Fit:
        found: dict[str, Any] = dict(zip(ALONE, values[len(units) :], strict=True))
        rates = dict(profile.fit.rate) | dict(zip(units, values, strict=False))
        return replace(profile.fit, rate=rates, **found)

    # A constant that no point depends on would wander off.
    ranges = [(0.05, 1.0, 1.3)] * len(units)
    ranges += [
        (1.0, base.overlap, MOST_OVERLAP) if name == "overlap" else (b / 30, b, b * 30)
        for name, b in ((name, getattr(base, name)) for name in ALONE)
    ]
    made = _least(alone, profile, one_thread, ranges)
    made = replace(made, family=_families(alone, replace(profile, fit=made)))
    together = [p for p in points if p.threads > 1]
    if together:

        def threads(values: Sequence[float]) -> Fit:
            found: dict[str, Any] = dict(zip(TOGETHER, values, strict=True))
            return replace(made, **found)

        made = _least(together, profile, threads, [(0.3, 1.0, 1.3)] * 2 + [(0.03, 1.0, 30.0)])
    return made


def _families(points: Sequence[Point], profile: MachineProfile) -> dict[str, float]:
    """By family the median over its points of measured by predicted time."""
    ratios: dict[str, list[float]] = {}
    for p in points:
        ratios.setdefault(p.family, []).append(p.seconds / p.predicted(profile))
    return {name: float(f"{median(found):.3g}") for name, found in sorted(ratios.items())}


def _least(
    points: Sequence[Point],
    profile: MachineProfile,
    constants: Callable[[Sequence[float]], Fit],
    ranges: Sequence[tuple[float, float, float]],
) -> Fit:
    """The best of ``constants`` on ``points``; least, first and greatest of each value."""
    names = {name: i for i, name in enumerate(dict.fromkeys(p.shape for p in points))}
    shape = np.array([names[p.shape] for p in points])

    def residuals(x: np.ndarray) -> np.ndarray:
        tried = replace(profile, fit=constants([exp(v) for v in x]))
        errors = np.array([log(p.predicted(tried) / p.seconds) for p in points])
        # What all kernels of a shape have in common does not change the choice.
        mean = np.bincount(shape, errors) / np.bincount(shape)
        return np.concatenate([errors, APART * (errors - mean[shape])])

    low, start, high = (np.log([row[i] for row in ranges]) for i in range(3))
    found = least_squares(
        residuals, start, bounds=(low, high), loss="soft_l1", f_scale=0.2, x_scale="jac"
    )
    return constants([float(f"{exp(v):.3g}") for v in found.x])


def choices(points: Iterable[Point]) -> dict[tuple[str, float], list[Point]]:
    """By (shape, error bound): the kernels within the bound, where there are several."""
    found: dict[tuple[str, float], list[Point]] = {}
    points = list(points)
    for bound in sorted({p.accuracy for p in points}):
        for point in points:
            if point.accuracy <= bound:
                found.setdefault((point.shape, bound), []).append(point)
    several = {key: kernels for key, kernels in found.items() if len(kernels) > 1}
    # A bound that admits nothing new asks nothing new.
    return {
        key: kernels
        for key, kernels in several.items()
        if any(point.accuracy == key[1] for point in kernels)
    }


def judge(points: Sequence[Point], profile: MachineProfile) -> Quality:
    """How the model, with the profile's constants, ranks ``points`` and chooses among them.

    Raises ValueError where no shape has two kernels to choose from.
    """
    predicted = np.array([p.predicted(profile) for p in points])
    measured = np.array([p.seconds for p in points])
    regrets: dict[tuple[str, float], float] = {}
    for key, kernels in choices(points).items():
        chosen = min(kernels, key=lambda p: p.predicted(profile))
        regrets[key] = chosen.seconds / min(p.seconds for p in kernels)
    if not regrets:
        raise ValueError("there is no choice among the points")
    worst = max(regrets, key=lambda key: regrets[key])
    return Quality(
        points=len(points),
        spearman=float(spearmanr(predicted, measured).statistic),
        kendall=float(kendalltau(predicted, measured).statistic),
        choices=len(regrets),
        regret=float(np.exp(np.mean(np.log(list(regrets.values()))))),
        worst=regrets[worst],
        worst_choice=f"{worst[0]} within {worst[1]:g}",
        error=float(np.exp(np.mean(np.abs(np.log(predicted / measured))))),
    )

"""Fitting the cost model's constants to measured launches, and how well it predicts others."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import exp, log

import numpy as np
from scipy.optimize import least_squares
from scipy.stats import kendalltau, spearmanr

from tilewright.backends.cost.model import of_cost
from tilewright.backends.kernels.family import Cost
from tilewright.backends.profile import Fit, MachineProfile

CONSTANTS = ("stream", "far", "overlap", "block_ns", "convert", "epilogue", "launch_ns")
"""Fields of Fit that are fitted, besides the rate of each unit."""

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

    def predicted(self, profile: MachineProfile) -> float:
        """Seconds that the model gives on one thread with cold weights."""
        return of_cost(self.cost, self.units, profile).seconds


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
    of it is not common to the kernels of a shape; outliers damped."""
    units = sorted({p.cost.unit for p in points})
    names = {name: i for i, name in enumerate(dict.fromkeys(p.shape for p in points))}
    shape = np.array([names[p.shape] for p in points])

    def constants(x: np.ndarray) -> Fit:
        values = [exp(v) for v in x]
        rates = dict(profile.fit.rate) | dict(zip(units, values, strict=False))
        return Fit(rate=rates, **dict(zip(CONSTANTS, values[len(units) :], strict=True)))

    def residuals(x: np.ndarray) -> np.ndarray:
        tried = replace(profile, fit=constants(x))
        errors = np.array([log(p.predicted(tried) / p.seconds) for p in points])
        # What all kernels of a shape have in common does not change the choice.
        mean = np.bincount(shape, errors) / np.bincount(shape)
        return np.concatenate([errors, APART * (errors - mean[shape])])

    base = Fit()
    start = [0.0] * len(units) + [log(getattr(base, name)) for name in CONSTANTS]
    # A constant that no point depends on would wander off.
    lower = [log(0.05)] * len(units) + [log(b / 30) for b in (exp(s) for s in start[len(units) :])]
    upper = [log(1.3)] * len(units) + [log(b * 30) for b in (exp(s) for s in start[len(units) :])]
    overlap = len(units) + CONSTANTS.index("overlap")
    lower[overlap], upper[overlap] = log(1.0), log(8.0)
    found = least_squares(
        residuals, start, bounds=(lower, upper), loss="soft_l1", f_scale=0.2, x_scale="jac"
    )
    made = constants(found.x)
    rates = {unit: float(f"{value:.3g}") for unit, value in made.rate.items()}
    return Fit(rate=rates, **{name: float(f"{getattr(made, name):.3g}") for name in CONSTANTS})


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
    """How the model, with the profile's constants, ranks ``points`` and chooses among them."""
    predicted = np.array([p.predicted(profile) for p in points])
    measured = np.array([p.seconds for p in points])
    regrets: dict[tuple[str, float], float] = {}
    for key, kernels in choices(points).items():
        chosen = min(kernels, key=lambda p: p.predicted(profile))
        regrets[key] = chosen.seconds / min(p.seconds for p in kernels)
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

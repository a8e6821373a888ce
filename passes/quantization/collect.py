"""Calibration: what every site reads, summed up sample by sample."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from tilewright.compiler.formats.inputs import Inputs
from tilewright.compiler.ir.core import Value
from tilewright.passes.quantization.instrument import READ
from tilewright.passes.quantization.sites import Site

Feeds = Mapping[str, np.ndarray]
Run = Callable[[Feeds], Mapping[str, np.ndarray]]
"""Runs a graph: feeds by input name to outputs by output name."""

SAMPLE = 512
"""Rows of X that are kept of each site to judge errors by."""

JUDGE = 4
"""Every how many samples one is kept from the Gram matrix, for its rows to judge by."""


class NotFinite(ValueError):
    """A site that reads infinite or NaN values. sample: the number of the sample that it is on."""

    def __init__(self, site: str, sample: int) -> None:
        super().__init__(f"{site} reads infinite or NaN values")
        self.site, self.sample = site, sample


@dataclass
class _Sums:
    """Of one site so far; rows are kept by reservoir sampling, so that all are equally likely."""

    gram: np.ndarray
    absmax: np.ndarray
    sample: np.ndarray
    fitted: int = 0
    rows: int = 0
    judging: int = 0
    random: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))

    @staticmethod
    def of(k: int) -> _Sums:
        return _Sums(np.zeros((k, k)), np.zeros(k, np.float32), np.zeros((SAMPLE, k), np.float32))

    def add(self, x: np.ndarray, fit: bool, judge: bool) -> None:
        np.maximum(self.absmax, np.abs(x).max(axis=0, initial=0), out=self.absmax)
        self.rows += len(x)
        if fit:
            wide = x.astype(np.float64)
            self.gram += wide.T @ wide
            self.fitted += len(x)
        if judge:
            seen = self.judging + np.arange(len(x))
            places = np.where(seen < SAMPLE, seen, self.random.integers(seen + 1))
            for i in np.flatnonzero(places < SAMPLE):  # a later row replaces an earlier one
                self.sample[places[i]] = x[i]
            self.judging += len(x)

    def inputs(self) -> Inputs:
        kept = self.sample[: self.judging].copy()
        return Inputs(self.gram, self.fitted, self.rows, self.absmax, kept)


def collect(run: Run, found: Sequence[Site], samples: Sequence[Feeds]) -> dict[str, Inputs]:
    """Statistics of every site's X over `samples`, by the name of the site.

    run: of the graph that `instrument.showing` made of these sites. One sample in JUDGE gives the
    rows that errors are judged by, the others those that weights are rounded by. One sample's
    values are in memory at a time. Sites that read the same value share one object. Raises
    NotFinite.
    """
    first: dict[tuple[Value, tuple[int, ...]], int] = {}
    for i, site in enumerate(found):
        first.setdefault((site.x, site.x_axes), i)
    sums = {i: _Sums.of(found[i].k) for i in first.values()}
    for number, feeds in enumerate(samples):
        judge = number % JUDGE == min(JUDGE, len(samples)) - 1
        outputs = run(feeds)
        for i, total in sums.items():
            value = found[i].matrix(outputs[READ.format(i)])
            if not np.isfinite(value).all():
                raise NotFinite(found[i].name, number)
            total.add(value, fit=not judge or len(samples) == 1, judge=judge)
    made = {i: total.inputs() for i, total in sums.items()}
    return {site.name: made[first[site.x, site.x_axes]] for site in found}

"""Calibration: what every site reads, summed up sample by sample."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from tilewright.compiler.formats.inputs import Inputs
from tilewright.passes.quantization.instrument import READ
from tilewright.passes.quantization.sites import Lookup, Multiplied, Site
from tilewright.passes.quantization.spill import Spilled

Feeds = Mapping[str, np.ndarray]
Run = Callable[[Feeds], Mapping[str, np.ndarray]]
"""Runs a graph: feeds by input name to outputs by output name."""

TOGETHER = 1024
"""Rows whose products are summed in f32."""

SAMPLE = 512
"""Rows of X that are kept of each site to judge errors by."""

JUDGE = 4
"""Every how many samples one is kept from the Gram matrix, for its rows to judge by."""


class NotFinite(ValueError):
    """A site that reads infinite or NaN values. sample: the number of the sample that it is on."""

    def __init__(self, site: str, sample: int) -> None:
        super().__init__(f"{site} reads infinite or NaN values")
        self.site, self.sample = site, sample


@dataclass(frozen=True)
class Statistics:
    """Of all sites by name. inputs: of products. reads: of lookups, how often each row was read,
    int64 [N]."""

    inputs: Mapping[str, Inputs]
    reads: Mapping[str, np.ndarray]


@dataclass
class _Sums:
    """Of one site so far; rows are kept by reservoir sampling, so that all are equally likely.

    Products of rows are f32 for up to TOGETHER rows, their sums f64.
    """

    gram: Spilled
    absmax: np.ndarray
    sample: np.ndarray
    fitted: int = 0
    rows: int = 0
    judging: int = 0
    waiting: list[np.ndarray] = field(default_factory=list)
    random: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))

    @staticmethod
    def of(k: int) -> _Sums:
        return _Sums(Spilled((k, k)), np.zeros(k, np.float32), np.zeros((SAMPLE, k), np.float32))

    def add(self, x: np.ndarray, rows: int, fit: bool, judge: bool) -> None:
        """Rows x that stand for so many."""
        np.maximum(self.absmax, np.abs(x).max(axis=0, initial=0), out=self.absmax)
        self.rows += rows
        if fit:
            self.fitted += len(x)
            self.waiting.append(np.array(x, np.float32))
            if sum(map(len, self.waiting)) >= TOGETHER:
                self._multiply()
        if judge:
            seen = self.judging + np.arange(len(x))
            places = np.where(seen < SAMPLE, seen, self.random.integers(seen + 1))
            for i in np.flatnonzero(places < SAMPLE):  # a later row replaces an earlier one
                self.sample[places[i]] = x[i]
            self.judging += len(x)

    def _multiply(self) -> None:
        if self.waiting:
            rows = np.concatenate(self.waiting)
            self.gram.array += rows.T @ rows
            self.gram.put_away()
            self.waiting.clear()

    def inputs(self) -> Inputs:
        self._multiply()
        kept = self.sample[: self.judging].copy()
        return Inputs(
            self.gram.array, self.fitted, self.rows, self.absmax, kept, self.gram.put_away
        )


def collect(run: Run, found: Sequence[Site], samples: Sequence[Feeds]) -> Statistics:
    """Statistics of every site over `samples`.

    run: of the graph that `instrument.showing` made of these sites. One sample in JUDGE gives the
    rows that errors are judged by, the others those that weights are rounded by. One sample's
    values are in memory at a time. Sites that read the same value share one object. Raises
    NotFinite.
    """
    first: dict[Hashable, int] = {}
    products = {i: site for i, site in enumerate(found) if isinstance(site, Multiplied)}
    for i, site in products.items():
        first.setdefault(site.rows_of, i)
    sums = {i: _Sums.of(found[i].k) for i in first.values()}
    counts = {
        i: np.zeros(site.n, np.int64) for i, site in enumerate(found) if isinstance(site, Lookup)
    }
    for number, feeds in enumerate(samples):
        judge = number % JUDGE == min(JUDGE, len(samples)) - 1
        outputs = run(feeds)
        for i, total in sums.items():
            value = outputs[READ.format(i)]
            if not np.isfinite(value).all():
                raise NotFinite(found[i].name, number)
            rows, count = products[i].sampled(value)
            total.add(rows, count, fit=not judge or len(samples) == 1, judge=judge)
        for i, reads in counts.items():
            which = outputs[READ.format(i)].reshape(-1) % found[i].n
            reads += np.bincount(which, minlength=found[i].n)
    made = {i: total.inputs() for i, total in sums.items()}
    return Statistics(
        {site.name: made[first[site.rows_of]] for site in products.values()},
        {found[i].name: count for i, count in counts.items()},
    )

"""Calibration: what every site reads, summed up sample by sample."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
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
"""Rows of X that are kept of each site."""


@dataclass
class _Sums:
    """Of one site so far; rows are kept by reservoir sampling, so that all are equally likely."""

    gram: np.ndarray
    absmax: np.ndarray
    sample: np.ndarray
    rows: int = 0
    random: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))

    @staticmethod
    def of(k: int) -> _Sums:
        return _Sums(np.zeros((k, k)), np.zeros(k, np.float32), np.zeros((SAMPLE, k), np.float32))

    def add(self, x: np.ndarray) -> None:
        wide = x.astype(np.float64)
        self.gram += wide.T @ wide
        np.maximum(self.absmax, np.abs(x).max(axis=0, initial=0), out=self.absmax)
        seen = self.rows + np.arange(len(x))
        places = np.where(seen < SAMPLE, seen, self.random.integers(seen + 1))
        kept = np.flatnonzero(places < SAMPLE)
        for i in kept:  # in order: a later row takes the place of an earlier one
            self.sample[places[i]] = x[i]
        self.rows += len(x)

    def inputs(self) -> Inputs:
        return Inputs(self.gram, self.rows, self.absmax, self.sample[: self.rows].copy())


def collect(run: Run, found: Sequence[Site], samples: Iterable[Feeds]) -> dict[str, Inputs]:
    """Statistics of every site's X over `samples`, by the name of the site.

    run: of the graph that `instrument.showing` made of these sites. One sample's values are in
    memory at a time. Sites that read the same value share one object. Raises ValueError for values
    that are not finite, naming the site.
    """
    first: dict[tuple[Value, tuple[int, ...]], int] = {}
    for i, site in enumerate(found):
        first.setdefault((site.x, site.x_axes), i)
    sums = {i: _Sums.of(found[i].k) for i in first.values()}
    for feeds in samples:
        outputs = run(feeds)
        for i, total in sums.items():
            value = found[i].matrix(outputs[READ.format(i)])
            if not np.isfinite(value).all():
                raise ValueError(f"{found[i].name} reads infinite or NaN values")
            total.add(value)
    made = {i: total.inputs() for i, total in sums.items()}
    return {site.name: made[first[site.x, site.x_axes]] for site in found}

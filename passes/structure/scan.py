"""Looking for every structure: detectors are found by walking the folders of `FOLDERS`.

A module with `DETECTORS` adds exact structures, one with `GAUGES` approximate ones.
"""

from __future__ import annotations

import pkgutil
from dataclasses import dataclass
from functools import cache
from importlib import import_module

import numpy as np

from tilewright.compiler.formats.inputs import Inputs
from tilewright.passes.structure.found import Detector, Energy, Found, Gauge
from tilewright.passes.structure.matrix import Matrix

FOLDERS = ("tilewright.passes.sparsity", "tilewright.passes.lowrank")


@dataclass(frozen=True)
class Scanned:
    """All that was found of one matrix. note: why it was not looked at."""

    exact: tuple[Found, ...] = ()
    energies: tuple[Energy, ...] = ()
    note: str = ""

    @property
    def best(self) -> Found | None:
        """The exact structure of the fewest bytes, of equals the one of the least work."""
        return min(self.exact, key=lambda f: (f.bytes(), f.work), default=None)

    @property
    def nearest(self) -> Energy | None:
        """The energy that is the smallest share of its null model's."""
        return min(self.energies, key=lambda e: e.lost / max(e.null, 1e-30), default=None)

    def named(self, kind: str) -> Found | None:
        """The exact structure of that kind."""
        return next((f for f in self.exact if f.kind == kind), None)


@cache
def detectors() -> tuple[Detector, ...]:
    """All detectors of exact structures, in the order in which they look."""
    found = [d for m in _modules() for d in getattr(m, "DETECTORS", ())]
    return tuple(sorted(found, key=lambda d: (d.order, d.kind)))


@cache
def gauges() -> tuple[Gauge, ...]:
    """All measures of approximate structures."""
    found = [g for m in _modules() for g in getattr(m, "GAUGES", ())]
    return tuple(sorted(found, key=lambda g: g.kind))


def _modules() -> list[object]:
    names = [
        f"{folder}.{module.name}"
        for folder in FOLDERS
        for module in pkgutil.iter_modules(import_module(folder).__path__)
    ]
    return [import_module(name) for name in names]


def _contains(other: Found, found: Found) -> bool:
    """Whether another product says as much in fewer bytes and no more work, or as many and less."""
    ours, its = (other.bytes(), other.work), (found.bytes(), found.work)
    return other.product and ours < its and ours[0] <= its[0] and ours[1] <= its[1]


def scan(w: np.ndarray, inputs: Inputs | None = None, approximate: bool = True) -> Scanned:
    """Every structure of W [K, N]; `approximate`: also energies beside their null models."""
    matrix = Matrix(w, inputs)
    if not matrix.w.size:
        return Scanned(note="no elements")
    if not matrix.usable:
        return Scanned(note="elements that are no numbers")
    exact: list[Found] = []
    for detector in detectors():
        found = detector.find(matrix)
        if found is None:
            continue
        exact.append(found)
        if detector.settles:
            return Scanned(tuple(exact))
    exact = [f for f in exact if not f.product or not any(_contains(g, f) for g in exact)]
    if not approximate:
        return Scanned(tuple(exact))
    energies = [e for g in gauges() if (e := g.measure(matrix)) is not None]
    return Scanned(tuple(exact), tuple(energies))

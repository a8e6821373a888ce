"""All ways to compute a task on a target: every family's answers with all their variants."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from tilewright.backends.kernels.family import KernelFamily, Layout
from tilewright.backends.kernels.registry import families
from tilewright.backends.target import Target
from tilewright.compiler.formats import named

CLASSES = (0.0, 1e-5, 1e-3, 1e-2)
"""Accuracy classes of results, as `KernelFamily.accuracy` gives them."""

NUMERICS = dict(zip(CLASSES, ("f32", "bf16x3", "f16", "bf16"), strict=True))
"""What plans and errors call the kernels of a class that read weights as they are."""


@dataclass(frozen=True)
class Candidate:
    """One spec that computes a task, and the family that it belongs to."""

    family: KernelFamily
    spec: Any

    @property
    def accuracy(self) -> float:
        """The class of the result's error; 0.0 for f32-faithful."""
        return self.family.accuracy(self.spec) if self.family.accuracy else 0.0

    @property
    def format(self) -> str:
        """Name of the weight format that it reads; empty for weights as they are."""
        return self.family.format(self.spec) if self.family.format else ""

    @property
    def numerics(self) -> str:
        """What decides its error: candidates with the same name make the same one."""
        return self.format or NUMERICS[self.accuracy]

    def pack(self, weights: np.ndarray) -> np.ndarray:
        """Weights in the order of the kernel, brought into its format without calibration first."""
        assert self.family.pack is not None
        logical = named(self.format).encode(as_matrix(weights)) if self.format else weights
        return self.family.pack(logical, self.spec)

    @property
    def layout(self) -> Layout | None:
        """Of its packed constant operand, None if it has none."""
        return self.family.layout(self.spec) if self.family.layout else None


def as_matrix(weights: np.ndarray) -> np.ndarray:
    """What formats store: a matrix as it is, filters [O, C, taps..] as [taps.. C, O]."""
    if weights.ndim == 2:
        return weights
    return np.moveaxis(weights, 1, -1).reshape(len(weights), -1).T


def allowed(max_error: float | None) -> float:
    """The worst accuracy class that an error bound of outputs permits (None: f32-faithful)."""
    return max((c for c in CLASSES if max_error is not None and c <= max_error), default=0.0)


@cache
def candidates(
    task: Any, target: Target, error: float = 0.0, formats: frozenset[str] = frozenset()
) -> tuple[Candidate, ...]:
    """Every spec for ``task`` on ``target`` whose accuracy class is at most ``error``, and those
    that read weights in one of ``formats``.

    Families come in alphabetical order, a family's variants in its own; equal specs once. Empty
    when no family knows the task.
    """
    found: dict[Any, Candidate] = {}
    for family in families().values():
        if family.candidates is not None and family.serves(target):
            _add(found, family, family.candidates(task, target), target, error, formats)
    return tuple(found.values())


def fitted(
    task: Any,
    target: Target,
    weights: np.ndarray,
    error: float = 0.0,
    formats: frozenset[str] = frozenset(),
) -> tuple[Candidate, ...]:
    """The same of those that there are for these weights alone (`KernelFamily.fitted`)."""
    found: dict[Any, Candidate] = {}
    for family in families().values():
        if family.fitted is not None and family.serves(target):
            _add(found, family, family.fitted(task, target, weights), target, error, formats)
    return tuple(found.values())


def _add(
    found: dict[Any, Candidate],
    family: KernelFamily,
    specs: tuple[Any, ...],
    target: Target,
    error: float,
    formats: frozenset[str],
) -> None:
    for spec in specs:
        tiled = family.variants(spec, target) if family.variants else (spec,)
        for variant in tiled:
            candidate = Candidate(family, variant)
            named_format = candidate.format
            if named_format in formats if named_format else candidate.accuracy <= error:
                found.setdefault(variant, candidate)

"""All ways to compute a task on a target: every family's answers with all their variants."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

from tilewright.backends.kernels.family import KernelFamily, Layout
from tilewright.backends.kernels.registry import families
from tilewright.backends.target import Target

CLASSES = (0.0, 1e-5, 1e-3, 1e-2)
"""Accuracy classes of results, as `KernelFamily.accuracy` gives them."""


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
    def layout(self) -> Layout | None:
        """Of its packed constant operand, None if it has none."""
        return self.family.layout(self.spec) if self.family.layout else None


def allowed(max_error: float | None) -> float:
    """The worst accuracy class that an error bound of outputs permits (None: f32-faithful)."""
    return max((c for c in CLASSES if max_error is not None and c <= max_error), default=0.0)


@cache
def candidates(task: Any, target: Target, error: float = 0.0) -> tuple[Candidate, ...]:
    """Every spec for ``task`` on ``target`` whose accuracy class is at most ``error``.

    Families come in alphabetical order, a family's variants in its own; equal specs once. Empty
    when no family knows the task.
    """
    found: dict[Any, Candidate] = {}
    for family in families().values():
        if family.candidates is None or not (family.supports is None or family.supports(target)):
            continue
        for spec in family.candidates(task, target):
            tiled = family.variants(spec, target) if family.variants else (spec,)
            for variant in tiled:
                candidate = Candidate(family, variant)
                if candidate.accuracy <= error:
                    found.setdefault(variant, candidate)
    return tuple(found.values())

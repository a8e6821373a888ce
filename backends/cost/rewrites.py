"""What products and moves take on the targets of a compile, for passes that rewrite products."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf
from typing import Any

import numpy as np

from tilewright.backends.cost.model import predict
from tilewright.backends.kernels.candidates import candidates, fitted
from tilewright.backends.kernels.f16_matmul.spec import HalfMatmulTask
from tilewright.backends.kernels.tasks import BatchedMatmulTask, MatmulTask
from tilewright.backends.profile import MachineProfile, profile_for
from tilewright.backends.target import Target
from tilewright.compiler.ir.core import Symbol
from tilewright.compiler.ir.dims import Dim, evaluate, symbols

SIZES = (1, 16, 128)
"""Of symbols without a typical size, as choices among kernels are priced."""


class Predicted:
    """Seconds of the fastest kernel on each target at each size: `passes.prices.Prices`.

    typical: sizes of symbols; the others are taken at SIZES. error: the accuracy class that kernels
    may have. A product that no kernel family takes is infinitely dear.
    """

    def __init__(
        self,
        targets: Sequence[Target],
        table: Mapping[str, Symbol],
        typical: Mapping[str, int],
        error: float,
    ) -> None:
        self.machines = [(target, profile_for(target)) for target in targets]
        self.table, self.typical, self.error = table, typical, error
        self._known: dict[tuple[Any, tuple[int, ...], str], float] = {}

    def product(
        self, rows: Dim, k: int, n: int, groups: int = 1, halves: bool = False
    ) -> tuple[float, ...]:
        """X [groups, rows, k] times constants [groups, k, n], rows of all groups side by side."""
        task: Any = (HalfMatmulTask if halves else MatmulTask)(k, n)
        if groups > 1:
            task = BatchedMatmulTask(1)
        found = []
        for m in self._sizes(rows):
            strides = (k, groups * k, k * n, n, n, groups * n)
            dims = (groups, m, k, n, *strides) if groups > 1 else (m, k, n)
            found += [self._best(task, dims, *machine) for machine in self.machines]
        return tuple(found)

    def as_it_is(self, rows: Dim, w: np.ndarray, halves: bool) -> tuple[float, ...]:
        """The same, or by kernels that fit these weights (`KernelFamily.fitted`) where faster."""
        k, n = w.shape
        found = []
        for m in self._sizes(rows):
            for target, profile in self.machines:
                task: Any = (HalfMatmulTask if halves else MatmulTask)(k, n)
                fit = fitted(MatmulTask(k, n), target, w, self.error)
                times = (predict(c.family, c.spec, (m, k, n), target, profile) for c in fit)
                found.append(min(times, default=inf))
                found[-1] = min(found[-1], self._best(task, (m, k, n), target, profile))
        return tuple(found)

    def moved(self, elements: Dim) -> tuple[float, ...]:
        """A launch that reads and writes so many f32 numbers beyond L2."""
        found = []
        for count in self._sizes(elements):
            for _, profile in self.machines:
                level = profile.read.l3 if profile.l3 else profile.read.l2
                launch = (profile.launch_ns + profile.fit.launch_ns) * 1e-9
                found.append(8 * count / level.one + launch)
        return tuple(found)

    def _sizes(self, dim: Dim) -> list[int]:
        names = symbols(dim)
        return [evaluate(dim, {name: self._size(name, size) for name in names}) for size in SIZES]

    def _size(self, name: str, size: int) -> int:
        symbol = self.table.get(name)
        size = self.typical.get(name, size)
        if symbol is None:
            return size
        return max(size if symbol.high is None else min(size, symbol.high), symbol.low)

    def _best(
        self, task: Any, dims: tuple[int, ...], target: Target, profile: MachineProfile
    ) -> float:
        key = (task, dims, target.name)
        if key not in self._known:
            found = candidates(task, target, self.error)
            times = (predict(c.family, c.spec, dims, target, profile) for c in found)
            self._known[key] = min(times, default=inf)
        return self._known[key]

"""Predicted times, which the caller of a pipeline brings along to judge rewrites by.

Kernels and machines belong to backends, which passes may not import.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol

import numpy as np

from tilewright.compiler.ir.dims import Dim, evaluate, symbols

Times = tuple[float, ...]
"""Of the same work on every target and at every size that counts."""

SIZES = (1, 16, 128)
"""Of every symbol, where nobody says what is typical."""


class Prices(Protocol):
    """What parts of a rewritten graph take."""

    def product(self, rows: Dim, k: int, n: int, groups: int = 1, halves: bool = False) -> Times:
        """X [groups, rows, k] times constants [groups, k, n]; halves: that are f16 numbers, which
        kernels read in half of the bytes."""

    def as_it_is(self, rows: Dim, w: np.ndarray, halves: bool) -> Times:
        """X [rows, k] times w [k, n], by kernels that know its zeros too."""

    def moved(self, elements: Dim) -> Times:
        """So many f32 numbers read in one order and written in another."""


class Counted:
    """Multiplications, constants and moved elements, at SIZES of all symbols: what rewrites are
    judged by where there is no machine."""

    def product(self, rows: Dim, k: int, n: int, groups: int = 1, halves: bool = False) -> Times:
        stored = 0.5 if halves else 1.0
        return tuple(groups * k * n * (stored + r) for r in at_sizes(rows))

    def as_it_is(self, rows: Dim, w: np.ndarray, halves: bool) -> Times:
        return self.product(rows, w.shape[0], w.shape[1], halves=halves)

    def moved(self, elements: Dim) -> Times:
        return tuple(map(float, at_sizes(elements)))


def at_sizes(dim: Dim) -> list[int]:
    """A dimension at SIZES of all of its symbols."""
    return [evaluate(dim, dict.fromkeys(symbols(dim), size)) for size in SIZES]


def together(*times: Times) -> Times:
    """One after another."""
    return tuple(map(sum, zip(*times, strict=True)))


def never_slower(new: Times, old: Times) -> bool:
    """On no target and at no size."""
    return all(a <= b for a, b in zip(new, old, strict=True))


_current: ContextVar[Prices | None] = ContextVar("prices", default=None)


@contextmanager
def pricing_with(prices: Prices | None) -> Iterator[None]:
    """Make `prices` those of passes that run inside the block; None: counts."""
    token = _current.set(prices)
    try:
        yield
    finally:
        _current.reset(token)


def prices() -> Prices:
    """The prices in force."""
    return _current.get() or Counted()

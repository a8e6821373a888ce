"""How far a dimension that several weights share can shrink, and what every step costs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np

from tilewright.compiler.ir.weights import Weight
from tilewright.passes.prices import Times
from tilewright.passes.quantization.errors import Squares

STEPS = 16
"""A dimension shrinks by so many parts of all, or by more where that is no multiple of UNIT."""

UNIT = 8
"""It shrinks in multiples of this: kernels work on whole vectors."""

LEAST = 0.25
"""Share of it that stays at least."""


@dataclass(frozen=True, eq=False)
class Rung(ABC):
    """A smaller size.

    local: ||Y' - Y|| / ||Y|| of the products that sum over the dimension, on rows that nothing was
    fitted to. squares: predicted squared relative error of every output of the model.
    """

    local: float
    squares: Squares

    @property
    @abstractmethod
    def kept(self) -> int:
        """What is left of the dimension."""


@dataclass(frozen=True, eq=False)
class Ladder(ABC):
    """The rungs below the whole of one dimension, the widest first; at least one."""

    rungs: tuple[Rung, ...]

    @property
    @abstractmethod
    def what(self) -> str:
        """The kind of dimension, for the record."""

    @property
    @abstractmethod
    def source(self) -> str:
        """ONNX nodes of what reads it."""

    @property
    @abstractmethod
    def weight(self) -> str:
        """Name of a constant that has it."""

    @property
    @abstractmethod
    def size(self) -> int:
        """Of the whole dimension."""

    @abstractmethod
    def times(self, kept: int) -> Times:
        """What all products that have it take together."""

    @abstractmethod
    def numbers(self, kept: int) -> int:
        """How many all constants that have it store together."""


def stored_as(array: np.ndarray, before: Weight) -> np.ndarray:
    """A constant in the place of another one: f32, of f16 numbers where that was, which kernels
    read in half of the bytes."""
    found = array.astype(np.float16) if before.halves else array
    return np.ascontiguousarray(found, np.float32)


def step_of(size: int) -> int:
    """By how much each rung is smaller."""
    return -(-size // (STEPS * UNIT)) * UNIT

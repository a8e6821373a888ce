"""What a detector answers: a structure of W [K, N] with its parameters, or an energy to compare."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from tilewright.passes.structure.matrix import Matrix

TOLERANCE = 2.0**-20
"""Greatest ||W - W'|| / ||W|| of an exact structure: f32 numbers are off by 2^-25 of themselves,
and products of two or three of them by a few times that."""


@dataclass(frozen=True, eq=False)
class Found(ABC):
    """A structure of W [k, n] that is there exactly.

    product: whether it is one of the forms that contain each other (low rank is a sum of Kronecker
    products, these are Monarch matrices, ...), of which only the best are told.
    residual: ||W - W'||_F / ||W||_F of the matrix W' that it describes, at most TOLERANCE.
    """

    kind: ClassVar[str]
    product: ClassVar[bool] = False
    k: int
    n: int
    residual: float

    @property
    @abstractmethod
    def values(self) -> int:
        """Numbers that have to be stored."""

    @property
    def index_bytes(self) -> int:
        """Bytes that say where these numbers belong."""
        return 0

    @property
    def work(self) -> int:
        """Multiplications for one row of X."""
        return self.values

    @property
    @abstractmethod
    def text(self) -> str:
        """Its parameters in a few words."""

    @abstractmethod
    def dense(self) -> np.ndarray:
        """W', f64 [K, N]."""

    def bytes(self, element: int = 4) -> int:
        """Stored bytes with `element` bytes a number."""
        return self.values * element + self.index_bytes

    @property
    def saved_bytes(self) -> float:
        """Share of the bytes of f32 weights that it saves."""
        return 1 - self.bytes() / (4 * self.k * self.n)

    @property
    def saved_work(self) -> float:
        """Share of the multiplications that it saves."""
        return 1 - self.work / (self.k * self.n)


@dataclass(frozen=True)
class Energy:
    """What is lost of a matrix under an approximate structure, beside i.i.d. Gaussian weights.

    lost: share of ||W||^2 (or of ||X W||^2 where `by_inputs`). null: the same of a matrix of this
    shape whose elements are independent Gaussian numbers.
    """

    kind: str
    text: str
    lost: float
    null: float
    by_inputs: bool = False

    @property
    def better(self) -> bool:
        """Whether it is structure: at most half of what chance would lose (trained weights, whose
        tails are longer than Gaussian, lose 0.6 to 1 of it), or nothing at all."""
        return self.lost <= NEGLIGIBLE or self.lost <= CLEARLY * self.null


CLEARLY = 0.5
"""Share of the null model's loss below which a matrix has a structure."""

NEGLIGIBLE = 1e-10
"""Lost energy that rounding to f32 may well be."""


@dataclass(frozen=True)
class Detector:
    """How to look for an exact structure.

    find: of a matrix with elements that are all numbers. settles: nothing more is to be said of a
    matrix that has this structure. order: cheap ones and those that settle come first.
    """

    kind: str
    find: Callable[[Matrix], Found | None]
    order: int
    settles: bool = False


@dataclass(frozen=True)
class Gauge:
    """How to measure an approximate structure; None where a matrix is too small to tell."""

    kind: str
    measure: Callable[[Matrix], Energy | None]


def residual(matrix: Matrix, dense: np.ndarray) -> float:
    """||W - dense||_F / ||W||_F in f64."""
    step = max(1, (1 << 17) // matrix.n)
    off = 0.0
    for i in range(0, matrix.k, step):
        part = matrix.w[i : i + step].astype(np.float64) - dense[i : i + step]
        off += float(np.einsum("ij,ij->", part, part))
    return float(np.sqrt(off / matrix.energy))

"""What a weight format is: how a matrix is stored, and how its input is read beside it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tilewright.compiler.formats.activations import Activation
from tilewright.compiler.formats.inputs import Inputs


@dataclass(frozen=True, eq=False)
class Encoded:
    """A matrix [K, N] in some format: named arrays (codes, scales, ...), as the format says."""

    shape: tuple[int, int]
    arrays: Mapping[str, np.ndarray]

    def __getitem__(self, name: str) -> np.ndarray:
        return self.arrays[name]


class WeightFormat(ABC):
    """One way to store the constant operand of Y [T, N] = X [T, K] W [K, N].

    Implementations are frozen dataclasses: equal ones store alike. A format says nothing of the
    order of bytes in memory; that is the layout of the kernel family that reads it.
    """

    @property
    @abstractmethod
    def name(self) -> str:
        """As plans and reports name it, e.g. ``w4-g64``: no spaces, unique among formats."""

    @property
    @abstractmethod
    def activation(self) -> Activation:
        """How kernels read X."""

    @property
    def structure(self) -> str:
        """What W has to be near to, as reports call it (``low rank``); empty for codes alone."""
        return ""

    def chance(self, k: int, n: int) -> float | None:
        """The part of ||X W||^2 that its structure leaves out where X and W [k, n] are Gaussian
        noise: W has none of that structure if it loses about as much. None: not known."""
        return None

    @property
    def stored(self) -> WeightFormat:
        """The format whose codes it has: of those that differ only in how X is read, one."""
        return self

    @property
    def by_columns(self) -> bool:
        """Whether several matrices for the same X, encoded one by one, make up what all of them
        side by side are encoded as (`side_by_side`): one launch can then multiply with them all."""
        return False

    @property
    def columnwise(self) -> bool:
        """Whether columns are encoded apart from each other, so that some of them say what error
        all of them make; else `foreseen` says it."""
        return True

    @abstractmethod
    def encode(self, weights: np.ndarray, inputs: Inputs | None = None) -> Encoded:
        """W, f32 [K, N], in this format; `inputs`: what calibration saw of X, to round by.

        Raises ValueError for weights that are not finite.
        """

    def nearest(self, weights: np.ndarray, inputs: Inputs) -> Encoded:
        """W rounded to nearest, which takes little time: for errors of that kind, not that size.
        `inputs` say how X is read."""
        return self.encode(weights)

    @abstractmethod
    def decode(self, encoded: Encoded) -> np.ndarray:
        """The matrix f32 [K, N] that stands in for W."""

    @abstractmethod
    def bytes(self, k: int, n: int) -> int:
        """Bytes of a stored [k, n] matrix without the padding of any kernel's tiles."""

    @property
    def calibrated(self) -> bool:
        """Whether it is of no use without inputs of calibration."""
        return False

    def supports(self, k: int, n: int) -> bool:
        """Whether a [k, n] matrix has this form; others are not offered it."""
        return k > 0 and n > 0

    def read(self, x: np.ndarray, encoded: Encoded) -> np.ndarray:
        """X [T, K] as kernels see it, float64."""
        return self.activation.read(x)

    def multiply(self, x: np.ndarray, encoded: Encoded) -> np.ndarray:
        """Y [T, N] in float64: what a kernel computes, but for the rounding of its sums."""
        return self.read(x, encoded) @ self.decode(encoded).astype(np.float64)

    def off(self, x: np.ndarray, weights: np.ndarray, encoded: Encoded) -> np.ndarray:
        """Y' - X W, f32 [T, N]: from the errors of X and of W, so that f32 is exact enough."""
        stored = self.decode(encoded).astype(np.float32, copy=False)
        found: np.ndarray = x @ (stored - weights)
        if not self.activation.exact:
            found += (self.read(x, encoded) - x).astype(np.float32) @ stored
        return found

    def foreseen(self, weights: np.ndarray, inputs: Inputs, notes: dict[str, Any]) -> float:
        """`error` of what `encode` would make, about, in less time. notes: what formats found out
        of this matrix and these inputs, for each other."""
        return self.error(weights, self.encode(weights, inputs), inputs)

    def error(self, weights: np.ndarray, encoded: Encoded, inputs: Inputs) -> float:
        """||Y' - X W||_F over all rows of X, estimated from the sample."""
        x = inputs.sample
        off = float(np.linalg.norm(self.off(x, weights, encoded)))
        return off * float(np.sqrt(inputs.rows / max(len(x), 1)))


def side_by_side(parts: Sequence[Encoded]) -> Encoded | None:
    """Matrices [K, N] of one format as one matrix, the columns of the first one first; None where
    they differ in what is not by columns, as the channels that a format treats apart.

    What lies by columns has them as its last axis of two or more.
    """
    first = parts[0]
    arrays: dict[str, np.ndarray] = {}
    for name, array in first.arrays.items():
        others = [part[name] for part in parts]
        if all(
            a.ndim > 1 and a.shape[-1] == p.shape[1] for a, p in zip(others, parts, strict=True)
        ):
            arrays[name] = np.concatenate(others, axis=-1)
        elif all(np.array_equal(array, other) for other in others):
            arrays[name] = array
        else:
            return None
    return Encoded((first.shape[0], sum(part.shape[1] for part in parts)), arrays)


def checked(weights: np.ndarray) -> np.ndarray:
    """`weights` as f32 [K, N]; ValueError when they are no matrix or not finite."""
    if weights.ndim != 2:
        raise ValueError(f"weights are {weights.ndim}-dimensional, a format stores a matrix")
    if not np.isfinite(weights).all():
        raise ValueError("weights have infinite or NaN elements, which integer codes cannot hold")
    return np.ascontiguousarray(weights, dtype=np.float32)

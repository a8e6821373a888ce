"""Weights whose blocks share factors: two products by blocks with a step between them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from tilewright.compiler.formats.activations import Activation
from tilewright.compiler.formats.floats import Bfloat16
from tilewright.compiler.formats.format import Encoded, WeightFormat, checked
from tilewright.compiler.formats.inputs import Inputs
from tilewright.compiler.formats.plain import Float32
from tilewright.compiler.formats.truncation import Factors, refitted

PARTS: tuple[WeightFormat, ...] = (Float32(), Bfloat16())
"""Formats of the factors."""

DAMP = 0.1
"""Share of the mean energy of channels that the metric gets more for each: blocks would make up for
each other along directions that few samples leave out, and be far off on others. 0.01 is 1 to 20 %
worse on products of MiniLM, and as good on those of codelm."""

PARTITION = 4
"""Blocks along either side of a matrix, of the formats that are offered."""

ROUNDED = {"f32": 0.0, "bf16": 2.9e-3}
"""By the format of the factors, relative errors that rounding adds: as `factored` has them."""


@dataclass(frozen=True, eq=False)
class BlockFactors:
    """left: f64 [p, K / p, width], by which each part of X is multiplied. middle: f64 [p, p, rank],
    or None where what comes of X is only put in another order. right: f64 [p, width, N / p], one
    for each part of Y."""

    left: np.ndarray
    middle: np.ndarray | None
    right: np.ndarray

    @property
    def dense(self) -> np.ndarray:
        """The matrix f64 [K, N]."""
        return np.concatenate([self.seen(j) @ own for j, own in enumerate(self.right)], axis=1)

    def seen(self, j: int) -> np.ndarray:
        """f64 [K, width]: what the right factor of part j of Y is multiplied by, for X = 1."""
        p, height, width = self.left.shape
        if self.middle is not None:
            made: np.ndarray = (self.left * self.middle[:, None, j]).reshape(p * height, width)
            return made
        rank = width // p
        spread = np.zeros((p, height, p, rank))
        for k in range(p):
            spread[k, :, k] = self.left[k, :, j * rank :][:, :rank]
        return spread.reshape(p * height, width)


@dataclass(frozen=True)
class Blocked(WeightFormat):
    """W [K, N] as ``parts`` x ``parts`` blocks made of factors in a format of matrices.

    X is cut into parts, each multiplied by its left factor; what comes of all parts is put
    together for each part of Y, and multiplied by its right factor, which reads it as that format
    reads its X, from f32. Encoded as the arrays of both factors, side by side, ``left.`` and
    ``right.`` in front of their names, and ``middle`` f32 [parts, parts, rank] where there is one.
    """

    parts: int
    rank: int
    part: WeightFormat
    mixed: ClassVar[bool]

    @property
    def columnwise(self) -> bool:
        return False

    @property
    def calibrated(self) -> bool:
        """Without inputs outputs may be far off that are near with them."""
        return True

    @property
    def activation(self) -> Activation:
        return self.part.activation

    @property
    def width(self) -> int:
        """Columns of a left factor, and rows of a right one."""
        return self.rank if self.mixed else self.parts * self.rank

    @property
    def between(self) -> int:
        """Numbers of the middle."""
        return self.parts * self.parts * self.rank if self.mixed else 0

    def supports(self, k: int, n: int) -> bool:
        if k % self.parts or n % self.parts or k == 0 or n == 0:
            return False
        i, l_ = k // self.parts, n // self.parts
        below = self.width * (k + n) + self.between < k * n
        fits = self.part.supports(i, self.width) and self.part.supports(self.width, l_)
        return below and fits and (self.mixed or self.rank <= min(i, l_))

    def bytes(self, k: int, n: int) -> int:
        left = self.part.bytes(k // self.parts, self.parts * self.width)
        return left + 4 * self.between + self.part.bytes(self.width, n)

    @abstractmethod
    def factors(self, w: np.ndarray, gram: np.ndarray | None) -> BlockFactors:
        """Of W [K, N], f64; gram: X^T X, by which errors of outputs are weighed."""

    def encode(self, weights: np.ndarray, inputs: Inputs | None = None) -> Encoded:
        w = checked(weights)
        gram = None if inputs is None else inputs.metric
        exact = self.factors(w.astype(np.float64), gram)
        left = self.part.encode(_beside(exact.left))
        right = exact.right
        middle = None if exact.middle is None else exact.middle.astype(np.float32)
        if not self.part.activation.exact:
            stored = _apart(self.part.decode(left).astype(np.float64), self.parts)
            kept = BlockFactors(stored, middle, right)
            columns = np.split(w, self.parts, axis=1)
            right = np.stack(
                [
                    refitted(own, Factors(kept.seen(j), right[j]), gram)
                    for j, own in enumerate(columns)
                ]
            )
        arrays = {f"left.{name}": array for name, array in left.arrays.items()}
        for name, array in self.part.encode(_beside(right)).arrays.items():
            arrays[f"right.{name}"] = array
        if middle is not None:
            arrays["middle"] = middle
        return Encoded((w.shape[0], w.shape[1]), arrays)

    def lefts(self, encoded: Encoded) -> Iterator[Encoded]:
        """The left factor of every part of X."""
        return self._sides(encoded, "left.", encoded.shape[0] // self.parts, self.width)

    def rights(self, encoded: Encoded) -> Iterator[Encoded]:
        """The right factor of every part of Y."""
        return self._sides(encoded, "right.", self.width, encoded.shape[1] // self.parts)

    def _sides(self, encoded: Encoded, side: str, k: int, n: int) -> Iterator[Encoded]:
        own = {name: a for name, a in encoded.arrays.items() if name.startswith(side)}
        for g in range(self.parts):
            cut = {
                name.removeprefix(side): np.ascontiguousarray(a[..., g * n : (g + 1) * n])
                for name, a in own.items()
            }
            yield Encoded((k, n), cut)

    def decode(self, encoded: Encoded) -> np.ndarray:
        lefts, rights = (
            np.stack([self.part.decode(e) for e in side]).astype(np.float64)
            for side in (self.lefts(encoded), self.rights(encoded))
        )
        middle = encoded["middle"] if self.mixed else None
        found: np.ndarray = BlockFactors(lefts, middle, rights).dense.astype(np.float32)
        return found

    def between_products(self, z: np.ndarray, encoded: Encoded) -> np.ndarray:
        """f32 [T, parts, width] of what all left factors made -> the same for all right ones."""
        if self.mixed:
            # As a kernel does it: fused, but for the order in which parts are added.
            wide = np.einsum("tir,ijr->tjr", z.astype(np.float64), encoded["middle"])
            sums: np.ndarray = wide.astype(np.float32)
            return sums
        p = self.parts
        seen = z.reshape(len(z), p, p, self.rank).transpose(0, 2, 1, 3)
        found: np.ndarray = np.ascontiguousarray(seen).reshape(len(z), p, self.width)
        return found

    def multiply(self, x: np.ndarray, encoded: Encoded) -> np.ndarray:
        cut = np.split(x, self.parts, axis=1)
        made = [self.part.multiply(a, e) for a, e in zip(cut, self.lefts(encoded), strict=True)]
        with np.errstate(over="ignore", invalid="ignore"):
            z = self.between_products(np.stack(made, axis=1).astype(np.float32), encoded)
        out = [self.part.multiply(z[:, j], e) for j, e in enumerate(self.rights(encoded))]
        return np.concatenate(out, axis=1)

    def off(self, x: np.ndarray, weights: np.ndarray, encoded: Encoded) -> np.ndarray:
        """Y' - X W, f32 [T, N]: sums in f64, as W' is far from W where X has nothing."""
        exact = x.astype(np.float64) @ weights
        found: np.ndarray = (self.multiply(x, encoded) - exact).astype(np.float32)
        return found

    @abstractmethod
    def lost(self, weights: np.ndarray, inputs: Inputs, notes: dict[str, Any]) -> float:
        """Share of ||X W||^2 that is lost by the form alone, about."""

    def foreseen(self, weights: np.ndarray, inputs: Inputs, notes: dict[str, Any]) -> float:
        """By `lost`, and what rounding factors adds."""
        if "energy" not in notes:
            notes["energy"] = float(np.square(inputs.sample.astype(np.float64) @ weights).sum())
        share = self.lost(weights, inputs, notes) + ROUNDED[self.part.name] ** 2
        rows = inputs.rows / max(len(inputs.sample), 1)
        return float(np.sqrt(share * notes["energy"] * rows))


def damped(gram: np.ndarray | None, size: int, share: float = DAMP) -> np.ndarray:
    """The Gram matrix in units of its mean diagonal, with a share of that on it, definite; the
    identity where there is none."""
    mean = 0.0 if gram is None else float(np.trace(gram)) / size
    if gram is None or mean == 0:
        return np.eye(size)
    return gram / mean + share * np.eye(size)


def _beside(groups: np.ndarray) -> np.ndarray:
    """[p, a, b] -> f32 [a, p b]."""
    p, a, b = groups.shape
    return np.ascontiguousarray(groups.transpose(1, 0, 2), np.float32).reshape(a, p * b)


def _apart(matrix: np.ndarray, p: int) -> np.ndarray:
    """[a, p b] -> [p, a, b]."""
    return np.stack(np.split(matrix, p, axis=1))

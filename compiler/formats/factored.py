"""Weights of low rank: two factors, W = B A, each stored in a format of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tilewright.compiler.formats.activations import Activation
from tilewright.compiler.formats.floats import Bfloat16
from tilewright.compiler.formats.format import Encoded, WeightFormat, checked
from tilewright.compiler.formats.inputs import Inputs
from tilewright.compiler.formats.integers import Integers
from tilewright.compiler.formats.null_models import rank_dropped
from tilewright.compiler.formats.plain import Float32
from tilewright.compiler.formats.truncation import Factors, refitted, spectrum, truncated

RANKS = (16, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)
"""Ranks that are offered: multiples of a vector, from 32 on of a step of tiles."""

GROUP = 32
"""Rows of integer codes that share a scale: the right factor has no more rows than the rank."""

ROUNDED = {"f32": 0.0, "bf16": 2.9e-3, "w8-g32-sym": 6e-3, "w4-g32": 0.09}
"""By the format of the factors, relative errors that rounding them adds, with that of X and of the
middle where these are rounded: means over the products of MiniLM and codelm."""


@dataclass(frozen=True)
class Factored(WeightFormat):
    """B [K, rank] and A [rank, N] in a format of matrices; the product with A reads X B as that
    format reads its X, from f32.

    B is W V for the directions V of greatest energy of the outputs, A their transpose
    (`truncation`): with inputs of calibration no other of that rank errs less, without them no
    other is nearer to W. Where factors are rounded, A is fitted to what B became. Encoded as the
    arrays of both, ``left.`` and ``right.`` in front of their names.

    ``supports`` is where both together have fewer numbers than W. Each rank is a format, so that
    the selection, which knows what everything else costs, decides how many each product gets.
    """

    rank: int
    part: WeightFormat

    @property
    def columnwise(self) -> bool:
        return False

    @property
    def name(self) -> str:
        return f"r{self.rank}-{self.part.name}"

    @property
    def activation(self) -> Activation:
        return self.part.activation

    @property
    def structure(self) -> str:
        return "low rank"

    def chance(self, k: int, n: int) -> float | None:
        return rank_dropped(self.rank, k, n)

    @property
    def calibrated(self) -> bool:
        """Without inputs outputs may be far off that are exact with them."""
        return True

    def supports(self, k: int, n: int) -> bool:
        below = self.rank * (k + n) < k * n
        return below and self.part.supports(k, self.rank) and self.part.supports(self.rank, n)

    def bytes(self, k: int, n: int) -> int:
        return self.part.bytes(k, self.rank) + self.part.bytes(self.rank, n)

    def encode(self, weights: np.ndarray, inputs: Inputs | None = None) -> Encoded:
        w = checked(weights)
        gram = None if inputs is None else inputs.metric
        exact = truncated(w, self.rank, gram)
        left = self.part.encode(exact.left.astype(np.float32), inputs)
        right, seen = exact.right, None
        if not self.part.activation.exact:
            stored = self.part.decode(left).astype(np.float64)
            right = refitted(w, Factors(stored, right), gram)
            seen = None if inputs is None else self._middle(inputs, left)
        return joined(left, self.part.encode(right.astype(np.float32), seen))

    def decode(self, encoded: Encoded) -> np.ndarray:
        left, right = (self.part.decode(e).astype(np.float64) for e in parts(encoded))
        found: np.ndarray = (left @ right).astype(np.float32)
        return found

    def multiply(self, x: np.ndarray, encoded: Encoded) -> np.ndarray:
        left, right = parts(encoded)
        middle = self.part.multiply(x, left)
        return self.part.multiply(middle.astype(np.float32), right)

    def off(self, x: np.ndarray, weights: np.ndarray, encoded: Encoded) -> np.ndarray:
        """Y' - X W, f32 [T, N]: sums in f64, as W' is far from W where X has nothing."""
        exact = x.astype(np.float64) @ weights
        found: np.ndarray = (self.multiply(x, encoded) - exact).astype(np.float32)
        return found

    def foreseen(self, weights: np.ndarray, inputs: Inputs, notes: dict[str, Any]) -> float:
        """By the energies of all directions on the sample, which say it for every rank."""
        kept, lost = np.split(energies(weights, inputs, notes), [self.rank])
        rounded = ROUNDED[self.part.name] ** 2 * kept.sum()
        return float(np.sqrt((lost.sum() + rounded) * inputs.rows / max(len(inputs.sample), 1)))

    def _middle(self, inputs: Inputs, left: Encoded) -> Inputs:
        """What calibration would have seen of X B."""
        b = self.part.decode(left).astype(np.float64)
        sample = (inputs.sample @ b).astype(np.float32)
        absmax = np.abs(sample).max(axis=0, initial=0)
        return Inputs(b.T @ inputs.gram @ b, inputs.fitted, inputs.rows, absmax, sample)


def energies(weights: np.ndarray, inputs: Inputs, notes: dict[str, Any]) -> np.ndarray:
    """Squared norms of the sample's outputs along the directions of `spectrum`, f64."""
    found: np.ndarray = _directions(weights, inputs, notes)[0]
    return found


def sizes(weights: np.ndarray, inputs: Inputs, notes: dict[str, Any]) -> np.ndarray:
    """Squared norms of the weights along these directions, f64."""
    found: np.ndarray = _directions(weights, inputs, notes)[1]
    return found


def _directions(
    weights: np.ndarray, inputs: Inputs, notes: dict[str, Any]
) -> tuple[np.ndarray, np.ndarray]:
    if "directions" not in notes:
        along = weights.astype(np.float64) @ spectrum(weights, inputs.metric).basis
        outputs = inputs.sample.astype(np.float64) @ along
        notes["directions"] = tuple(np.einsum("td,td->d", a, a) for a in (outputs, along))
    found: tuple[np.ndarray, np.ndarray] = notes["directions"]
    return found


def joined(left: Encoded, right: Encoded) -> Encoded:
    """Both factors as one matrix."""
    arrays = {
        f"{side}.{name}": array
        for side, of in zip(SIDES, (left, right), strict=True)
        for name, array in of.arrays.items()
    }
    return Encoded((left.shape[0], right.shape[1]), arrays)


def parts(encoded: Encoded) -> tuple[Encoded, Encoded]:
    """The two factors."""
    sides: list[Mapping[str, np.ndarray]] = []
    for side in SIDES:
        own = {n: a for n, a in encoded.arrays.items() if n.startswith(f"{side}.")}
        sides.append({name.removeprefix(f"{side}."): array for name, array in own.items()})
    k, n = encoded.shape
    first = next(iter(sides[0].values()))  # codes or values [K, rank]
    rank = first.shape[1]
    return Encoded((k, rank), sides[0]), Encoded((rank, n), sides[1])


SIDES = ("left", "right")

PARTS: tuple[WeightFormat, ...] = (
    Float32(),
    Bfloat16(),
    Integers(8, GROUP, symmetric=True),
    Integers(4, GROUP),
)

FORMATS = tuple(Factored(rank, part) for part in PARTS for rank in RANKS)

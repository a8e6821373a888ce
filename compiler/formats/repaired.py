"""Codes of few bits, and what they lose of the outputs once more at a low rank."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from tilewright.compiler.formats.activations import Activation
from tilewright.compiler.formats.factored import Factored, sizes
from tilewright.compiler.formats.floats import Bfloat16
from tilewright.compiler.formats.format import Encoded, WeightFormat, checked
from tilewright.compiler.formats.grids import TINY
from tilewright.compiler.formats.inputs import Inputs
from tilewright.compiler.formats.integers import Integers
from tilewright.compiler.formats.null_models import rank_dropped

ROUNDS = 3
"""Times that codes and factors are fitted to what the other ones leave, at most."""

COLUMNS = 64
"""Columns of all sizes that say what error the codes of all of them make."""


@dataclass(frozen=True)
class Repaired(WeightFormat):
    """W = Q + B A: Q in ``base``, B [K, rank] and A [rank, N] in bf16.

    Q of W, then B A of W - Q in the metric of the inputs (`truncation`), then Q of W - B A, and so
    on while the error falls; the same from B A of W on; the best pair is kept. Encoded as arrays of
    Q and, with ``repair.`` in front, of `Factored`.

    Guo et al., LQ-LoRA, arXiv 2311.12023, with the output's error in place of the weights' and the
    best instead of the last iterate. Its integer program is the selection.
    """

    base: Integers
    rank: int

    @property
    def columnwise(self) -> bool:
        return False

    @property
    def name(self) -> str:
        return f"{self.base.name}+r{self.rank}"

    @property
    def structure(self) -> str:
        return "codes and low rank"

    @property
    def activation(self) -> Activation:
        return self.base.activation

    @property
    def factors(self) -> Factored:
        """The format of B A."""
        return Factored(self.rank, Bfloat16())

    def supports(self, k: int, n: int) -> bool:
        return self.base.supports(k, n) and self.factors.supports(k, n)

    def bytes(self, k: int, n: int) -> int:
        return self.base.bytes(k, n) + self.factors.bytes(k, n)

    def encode(self, weights: np.ndarray, inputs: Inputs | None = None) -> Encoded:
        w = checked(weights)
        best, least = None, np.inf
        for low in (np.zeros_like(w), self.factors.decode(self.factors.encode(w, inputs))):
            for found, off in self._rounds(w, low, inputs):
                if off < least:
                    best, least = found, off
        assert best is not None, "errors are finite"
        return best

    def _rounds(
        self, w: np.ndarray, low: np.ndarray, inputs: Inputs | None
    ) -> Iterator[tuple[Encoded, float]]:
        """Pairs with their errors, while these fall. low: what factors stand for at first."""
        last = np.inf
        for _ in range(ROUNDS):
            codes = self.base.encode(w - low, inputs)
            factors = self.factors.encode(w - self.base.decode(codes), inputs)
            found = joined(codes, factors)
            low = self.factors.decode(factors)
            off = self._off(w, found, inputs)
            if off >= last:
                return
            yield found, off
            last = off

    def decode(self, encoded: Encoded) -> np.ndarray:
        codes, factors = parts(encoded)
        found: np.ndarray = self.base.decode(codes) + self.factors.decode(factors)
        return found

    def multiply(self, x: np.ndarray, encoded: Encoded) -> np.ndarray:
        codes, factors = parts(encoded)
        found: np.ndarray = self.base.multiply(x, codes) + self.factors.multiply(x, factors)
        return found

    def off(self, x: np.ndarray, weights: np.ndarray, encoded: Encoded) -> np.ndarray:
        exact = x.astype(np.float64) @ weights
        found: np.ndarray = (self.multiply(x, encoded) - exact).astype(np.float32)
        return found

    def foreseen(self, weights: np.ndarray, inputs: Inputs, notes: dict[str, Any]) -> float:
        """By the error of codes of some columns: it is about white, and falls by what factors take
        of white noise, and by what they take of the weights that are coded."""
        if self.base.name not in notes:
            order = np.argsort(np.einsum("kn,kn->n", weights, weights), kind="stable")
            places = (np.arange(COLUMNS) + 0.5) * weights.shape[1] / COLUMNS
            some = np.ascontiguousarray(weights[:, order[places.astype(np.int64)]])
            error = self.base.error(some, self.base.encode(some, inputs), inputs)
            notes[self.base.name] = error * np.sqrt(weights.shape[1] / COLUMNS)
        own = sizes(weights, inputs, notes)
        white = rank_dropped(self.rank, *weights.shape)
        left = white * own[self.rank :].sum() / max(own.sum(), TINY)
        return float(notes[self.base.name] * np.sqrt(left))

    def _off(self, w: np.ndarray, encoded: Encoded, inputs: Inputs | None) -> float:
        if inputs is not None:
            return self.error(w, encoded, inputs)
        return float(np.linalg.norm(self.decode(encoded) - w))


def joined(codes: Encoded, factors: Encoded) -> Encoded:
    """Both as one matrix."""
    more = {f"{REPAIR}{name}": array for name, array in factors.arrays.items()}
    return Encoded(codes.shape, {**codes.arrays, **more})


def parts(encoded: Encoded) -> tuple[Encoded, Encoded]:
    """The codes, and the factors."""
    codes = {n: a for n, a in encoded.arrays.items() if not n.startswith(REPAIR)}
    factors = {n.removeprefix(REPAIR): a for n, a in encoded.arrays.items() if n.startswith(REPAIR)}
    return Encoded(encoded.shape, codes), Encoded(encoded.shape, factors)


REPAIR = "repair."

FORMATS = tuple(Repaired(Integers(4, 64), rank) for rank in (16, 32, 64))

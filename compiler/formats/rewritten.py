"""8-bit integers of a product that was rewritten first: X W = (X A) (A^-1 W)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tilewright.compiler.formats.activations import Activation, Int8, Ranged, Static
from tilewright.compiler.formats.format import Encoded, WeightFormat, checked
from tilewright.compiler.formats.hadamard import rotated
from tilewright.compiler.formats.inputs import Inputs
from tilewright.compiler.formats.integers import Integers
from tilewright.compiler.formats.migration import factors, fixed_factors


@dataclass(frozen=True)
class Rewritten(WeightFormat):
    """A = diag(m) diag(H, .., H): kernels multiply channels by m (`migration`), and rotate blocks
    of them by a Hadamard matrix, before they round; W has taken the inverse.

    block: size of H, of powers of 4 so that its inverse has no rounding; 1: none. static: steps
    are fixed, X m is rounded to integers; no row is read for its greatest value. Encoded as
    `Integers` of A^-1 W, and factors f32 [K].

    Xiao et al., SmoothQuant, arXiv 2211.10438; Ashkboos et al., QuaRot, arXiv 2404.00456, with
    blocks as of Xi et al., arXiv 2306.11987; MergeQuant, arXiv 2503.07654.
    """

    block: int = 1
    static: bool = False

    @property
    def name(self) -> str:
        if self.static:
            return "w8a8-static"
        return f"w8a8-h{self.block}" if self.block > 1 else "w8a8-smooth"

    @property
    def activation(self) -> Activation:
        return Static() if self.static else Int8()

    @property
    def calibrated(self) -> bool:
        return self.static

    @property
    def plain(self) -> Integers:
        """The format of the rewritten weights."""
        return Integers(8, symmetric=True)

    def supports(self, k: int, n: int) -> bool:
        return n > 0 and k > 0 and k % self.block == 0

    def bytes(self, k: int, n: int) -> int:
        return self.plain.bytes(k, n) + 4 * k

    def encode(self, weights: np.ndarray, inputs: Inputs | None = None) -> Encoded:
        """Without inputs factors are 1, or reach magnitudes of 8 where steps are fixed."""
        w = checked(weights)
        if inputs is None:
            m = np.full(len(w), 127 / 8 if self.static else 1, np.float32)
        else:
            m = fixed_factors(w, inputs) if self.static else factors(w, inputs, self.block)
        new = rotated(np.ascontiguousarray((w / m[:, None]).T), self.block).T / self.block
        seen = None if inputs is None else self._inputs(inputs, m)
        found = self.plain.encode(np.ascontiguousarray(new, np.float32), seen)
        return Encoded(found.shape, {**found.arrays, "factors": m})

    def rewrite(self, x: np.ndarray, encoded: Encoded) -> np.ndarray:
        """X A, f32 [T, K]."""
        return rotated(x.astype(np.float32) * encoded["factors"], self.block)

    def read(self, x: np.ndarray, encoded: Encoded) -> np.ndarray:
        read = self.activation.read(self.rewrite(x, encoded))
        found: np.ndarray = rotated(read, self.block) / (encoded["factors"] * float(self.block))
        return found

    def decode(self, encoded: Encoded) -> np.ndarray:
        new = np.ascontiguousarray(self.plain.decode(encoded).T)
        found: np.ndarray = rotated(new, self.block).T * encoded["factors"][:, None]
        return found

    def multiply(self, x: np.ndarray, encoded: Encoded) -> np.ndarray:
        read = self.activation.read(self.rewrite(x, encoded))
        found: np.ndarray = read @ self.plain.decode(encoded).astype(np.float64)
        return found

    def _inputs(self, inputs: Inputs, m: np.ndarray) -> Inputs:
        """What calibration would have seen of X A."""
        wide = m.astype(np.float64)
        gram = rotated(inputs.gram * wide * wide[:, None], self.block)
        gram = rotated(np.ascontiguousarray(gram.T), self.block)
        sample = rotated(inputs.sample * m, self.block)
        absmax = np.abs(sample).max(axis=0, initial=0)
        return Inputs(gram, inputs.fitted, inputs.rows, absmax, sample)


FORMATS = (
    Integers(8, symmetric=True, reads=Ranged()),
    Rewritten(),
    Rewritten(block=64),
    Rewritten(static=True),
)

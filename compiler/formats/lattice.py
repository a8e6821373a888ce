"""Vectors of weights as points of lattices, one lattice a group of channels."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from tilewright.compiler.formats.activations import Activation, Rounded
from tilewright.compiler.formats.correction import corrected
from tilewright.compiler.formats.format import Encoded, WeightFormat, checked
from tilewright.compiler.formats.gptq import gptq
from tilewright.compiler.formats.grids import stored
from tilewright.compiler.formats.inputs import Inputs

SIZE = 8
"""Weights of a vector: channels that follow each other in a column."""

GROUP = 128
"""Channels that share a lattice, and of a column a scale."""

STEPS = {2: 0.996, 3: 0.586, 4: 0.335}
"""Steps of uniform codes by bits that lose least of a normal distribution, in its deviations."""

SHARES = (0.7, 0.85, 1.0, 1.2, 1.45, 1.75, 2.1)
"""Multiples of these that are tried."""

ROUNDS = 3
"""How often lattices are fitted to codes and codes to lattices."""


@dataclass(frozen=True)
class Lattice(WeightFormat):
    """w = s B_g (q - (2^bits - 1) / 2) for every vector w of 8 weights of a column.

    B_g is the 8 by 8 basis of the lattice of the group, k // 128, for all columns; s is the scale
    of the column there. X B is multiplied with the codes, so that nothing of B is done for each
    weight: x (B z) = (x B) z. Encoded as codes uint8 [K, N], scales f32 [G, N] (values of f16) and
    bases f32 [G, 8, 8].

    GLVQ, "Learning Grouped Lattice Vector Quantizers for Low-Bit LLM Compression", without its
    compander, which would forbid the fold. Babai's rounding is done in the metric of the inputs,
    where it is GPTQ on the coordinates of the lattice; bases follow by least squares.
    """

    bits: int
    reads: Activation = field(default_factory=Rounded)

    @property
    def name(self) -> str:
        return f"glvq{self.bits}-g{GROUP}"

    @property
    def activation(self) -> Activation:
        return self.reads

    @property
    def middle(self) -> float:
        """The code of 0."""
        return float(2**self.bits - 1) / 2

    def groups(self, k: int) -> int:
        """Number of groups of a column of k weights."""
        return -(-k // GROUP)

    def supports(self, k: int, n: int) -> bool:
        return n > 0 and k > GROUP and k % (2 * SIZE) == 0

    def bytes(self, k: int, n: int) -> int:
        groups = self.groups(k)
        return -(-k * n * self.bits // 8) + 2 * groups * n + 4 * groups * SIZE * SIZE

    def encode(self, weights: np.ndarray, inputs: Inputs | None = None) -> Encoded:
        """Nearest codes of the cubic lattice; with calibration inputs the codes and bases that make
        the least error of several rounds."""
        w = checked(weights)
        eye = np.tile(np.eye(SIZE, dtype=np.float32), (self.groups(len(w)), 1, 1))
        scales = self._scales(w)
        plain = self._encoded(self._codes(w, scales), scales, eye)
        if inputs is None:
            return plain
        best, found = plain, plain
        bases = eye
        for _ in range(ROUNDS):
            found = self._rounded(w, inputs, bases, found["scales"])
            best = min(best, found, key=lambda e: self.error(w, e, inputs))
            bases = self._fitted(w, found, inputs)
            found = self._encoded(found["codes"], found["scales"], bases)
            best = min(best, found, key=lambda e: self.error(w, e, inputs))
        return best

    def _scales(self, w: np.ndarray) -> np.ndarray:
        """f32 [G, N] for weights without a lattice: of some multiples of their deviation those with
        the least squared error."""
        parts = [w[i : i + GROUP] for i in range(0, len(w), GROUP)]
        sizes = np.stack([np.sqrt(np.mean(np.square(p), axis=0)) for p in parts])
        best, least = np.zeros_like(sizes), np.full(sizes.shape, np.inf)
        for share in SHARES:
            scales = stored(sizes * np.float32(STEPS[self.bits] * share), half=True)
            made = self._encoded(self._codes(w, scales), scales, np.empty(0))
            off = np.square(self._steps(made) - w)
            error = np.add.reduceat(off, np.arange(0, len(w), GROUP), axis=0)
            best, least = np.where(error < least, scales, best), np.minimum(error, least)
        return best

    def _codes(self, w: np.ndarray, scales: np.ndarray) -> np.ndarray:
        steps = np.repeat(scales, GROUP, axis=0)[: len(w)]
        q = np.divide(w, steps, out=np.zeros_like(w), where=steps > 0) + np.float32(self.middle)
        found: np.ndarray = np.clip(np.rint(q), 0, 2**self.bits - 1).astype(np.uint8)
        return found

    def _rounded(
        self, w: np.ndarray, inputs: Inputs, bases: np.ndarray, scales: np.ndarray
    ) -> Encoded:
        """Codes by Babai's rounding on these lattices, then scales and codes that fit them."""
        inner = _folded(inputs, bases)
        flat = turned(w, np.linalg.inv(bases))
        top, middle = 2**self.bits - 1, np.float32(self.middle)
        for last in (False, True):
            inverse = np.divide(1, scales, out=np.zeros_like(scales), where=scales > 0)

            def rounding(
                channel: int,
                values: np.ndarray,
                scales: np.ndarray = scales,
                inverse: np.ndarray = inverse,
            ) -> tuple[np.ndarray, np.ndarray]:
                g = channel // GROUP
                codes = np.clip(np.rint(values * inverse[g] + middle), 0, top)
                return codes, (codes - middle) * scales[g]

            codes = gptq(flat, inner, rounding).astype(np.uint8)
            if not last:
                steps = codes.astype(np.float32) - middle
                scales = corrected(
                    flat, steps, scales, GROUP, inner.gram, lambda s: stored(s, half=True)
                )
        return self._encoded(codes, scales, bases)

    def _fitted(self, w: np.ndarray, found: Encoded, inputs: Inputs) -> np.ndarray:
        """Bases f32 [G, 8, 8] of less error for the same codes: one step of Newton's method, as if
        vectors did not see each other, of the length that is best if they do."""
        steps = self._steps(found)
        gram = inputs.gram
        off = w - turned(steps, found["bases"])
        slope = (gram @ off).astype(np.float64)
        change = np.zeros_like(found["bases"], dtype=np.float64)
        for g in range(len(change)):
            left = np.zeros((SIZE * SIZE, SIZE * SIZE))
            right = np.zeros((SIZE, SIZE))
            for i in range(g * GROUP, min((g + 1) * GROUP, len(w)), SIZE):
                own = slice(i, i + SIZE)
                z = steps[own].astype(np.float64)
                left += np.kron(gram[own, own].astype(np.float64), z @ z.T)
                right += slope[own] @ z.T
            left[np.diag_indices(SIZE * SIZE)] += 1e-6 * np.trace(left) / SIZE**2 + 1e-30
            change[g] = np.linalg.solve(left, right.reshape(-1)).reshape(SIZE, SIZE)
        moved = turned(steps, change)
        seen = float(np.sum(moved * (gram @ moved)))
        length = float(np.sum(moved * slope)) / seen if seen > 0 else 0.0
        made: np.ndarray = (found["bases"] + length * change).astype(np.float32)
        return made

    def _steps(self, encoded: Encoded) -> np.ndarray:
        """s (q - middle), f32 [K, N]."""
        codes = encoded["codes"].astype(np.float32) - np.float32(self.middle)
        found: np.ndarray = codes * np.repeat(encoded["scales"], GROUP, axis=0)[: len(codes)]
        return found

    def _encoded(self, codes: np.ndarray, scales: np.ndarray, bases: np.ndarray) -> Encoded:
        arrays = {"codes": codes, "scales": scales, "bases": bases}
        return Encoded((codes.shape[0], codes.shape[1]), arrays)

    def decode(self, encoded: Encoded) -> np.ndarray:
        return turned(self._steps(encoded), encoded["bases"]).astype(np.float32)

    def product(self, x: np.ndarray, encoded: Encoded) -> np.ndarray:
        """Y [T, N] in float64 as kernels compute it: X B, rounded, times the integers."""
        made: np.ndarray = self.reads.read(folded(x, encoded["bases"])) @ self._steps(encoded)
        return made

    def read(self, x: np.ndarray, encoded: Encoded) -> np.ndarray:
        """X B is what is rounded."""
        bases = encoded["bases"].astype(np.float64)
        turned_x = self.reads.read(folded(x, encoded["bases"]))
        found: np.ndarray = folded(turned_x, np.linalg.inv(bases))
        return found


def turned(z: np.ndarray, bases: np.ndarray) -> np.ndarray:
    """B z of every vector of z [K, N]; bases [G, 8, 8]."""
    k, n = z.shape
    vectors = z.reshape(k // SIZE, SIZE, n)
    each = np.repeat(bases, GROUP // SIZE, axis=0)[: len(vectors)]
    found: np.ndarray = np.matmul(each, vectors).reshape(k, n)
    return found


def folded(x: np.ndarray, bases: np.ndarray) -> np.ndarray:
    """x B of every vector of the rows of x [T, K]."""
    found: np.ndarray = turned(x.T, bases.transpose(0, 2, 1)).T
    return found


def _folded(inputs: Inputs, bases: np.ndarray) -> Inputs:
    """What was seen of X, of X B."""
    if (bases == np.eye(SIZE, dtype=bases.dtype)).all():
        return inputs  # and its factor, which takes longest
    gram = folded(folded(inputs.gram, bases).T, bases)
    sample = np.ascontiguousarray(folded(inputs.sample, bases), np.float32)
    return Inputs(gram, inputs.fitted, inputs.rows, inputs.absmax, sample)


FORMATS = (Lattice(2), Lattice(3))

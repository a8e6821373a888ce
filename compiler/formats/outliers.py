"""8-bit integers but for a few channels whose inputs are far greater than the others."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from tilewright.compiler.formats.activations import Activation, Int8, Rounded
from tilewright.compiler.formats.floats import Bfloat16
from tilewright.compiler.formats.format import Encoded, WeightFormat, checked
from tilewright.compiler.formats.gptq import Round, gptq
from tilewright.compiler.formats.grids import Grid, fit
from tilewright.compiler.formats.inputs import Inputs
from tilewright.compiler.formats.integers import Integers, nearest

ZERO = 128
"""The code of no weight."""


@dataclass(frozen=True)
class OutlierSplit(WeightFormat):
    """``count`` channels multiplied in bf16, all others in 8 bits by row of X and column of W.

    The channels are those whose inputs make the scales of rows large; calibration finds them once
    and for all. The scale of a row is that of its other channels. Encoded as channels int32
    [count] in rising order, outliers uint16 [count, N] (bf16 of their weights), and codes uint8
    [K, N], scales f32 [1, N], zeros uint8 [1, N] as `Integers`, with codes of no weight in the
    outliers' rows.

    Dettmers, Lewis, Belkada, Zettlemoyer, LLM.int8(), arXiv 2208.07339, which looks for outliers
    at run time.
    """

    count: int
    reads: Activation = field(default_factory=Int8)

    @property
    def by_columns(self) -> bool:
        return True

    @property
    def name(self) -> str:
        return f"w8{self.reads.name}-o{self.count}"

    @property
    def activation(self) -> Activation:
        return self.reads

    @property
    def others(self) -> Integers:
        """The format of the other channels."""
        return Integers(8, symmetric=True, reads=self.reads)

    def supports(self, k: int, n: int) -> bool:
        return n > 0 and k > 2 * self.count

    def bytes(self, k: int, n: int) -> int:
        return self.others.bytes(k - self.count, n) + self.count * (2 * n + 4)

    def encode(self, weights: np.ndarray, inputs: Inputs | None = None) -> Encoded:
        """The channels whose removal makes rows of the sample smallest; without inputs those with
        the greatest weights."""
        w = checked(weights)
        if inputs is None:
            size = np.abs(w).max(axis=1, initial=0)
            chosen = np.sort(np.argsort(-size, kind="stable")[: self.count])
        else:
            chosen = outliers(inputs, self.count)
        kept = np.setdiff1d(np.arange(len(w)), chosen)
        importance = None if inputs is None else inputs.importance[kept] + 1e-12
        grid = fit(w[kept], 8, symmetric=True, half=False, importance=importance)
        codes = np.full(w.shape, ZERO, np.uint8)
        codes[kept] = grid.codes(w[kept])
        plain = self._encoded(chosen, codes, w[chosen], grid)
        if inputs is None:
            return plain
        tail = w[chosen]
        codes = gptq(w, inputs, _rounding(grid, chosen, tail))
        better = self._encoded(chosen, codes.astype(np.uint8), tail, grid)
        return min(plain, better, key=lambda e: self.error(w, e, inputs))

    def _encoded(
        self, chosen: np.ndarray, codes: np.ndarray, tail: np.ndarray, grid: Grid
    ) -> Encoded:
        arrays = {
            "codes": codes,
            "scales": grid.scales[None],
            "zeros": np.full((1, codes.shape[1]), ZERO, np.uint8),
            "channels": chosen.astype(np.int32),
            "outliers": Bfloat16().encode(tail)["codes"],
        }
        return Encoded((codes.shape[0], codes.shape[1]), arrays)

    def decode(self, encoded: Encoded) -> np.ndarray:
        found = self.others.decode(encoded)
        chosen = encoded["channels"]
        tail = Encoded((len(chosen), found.shape[1]), {"codes": encoded["outliers"]})
        found[chosen] = Bfloat16().decode(tail)
        return found

    def read(self, x: np.ndarray, encoded: Encoded) -> np.ndarray:
        chosen = encoded["channels"]
        rest = np.array(x, np.float32)
        rest[:, chosen] = 0
        found = self.reads.read(rest)
        found[:, chosen] = Rounded().read(x[:, chosen])
        return found


def outliers(inputs: Inputs, count: int) -> np.ndarray:
    """``count`` channels in rising order. One after another: the one without which the mean of
    the rows' squared greatest magnitudes, and so of their rounding errors, falls most; those that
    calibration saw largest where the sample has no more to say."""
    left = np.abs(inputs.sample)
    chosen: list[int] = []
    for _ in range(count):
        gain = np.zeros(left.shape[1])
        if len(left):
            two = np.partition(left, left.shape[1] - 2, axis=1)[:, -2:].astype(np.float64)
            np.add.at(gain, left.argmax(axis=1), two[:, 1] ** 2 - two[:, 0] ** 2)
        gain[chosen] = -1
        best = int(gain.argmax())
        if gain[best] <= 0:
            size = inputs.absmax.astype(np.float64)
            size[chosen] = -1
            best = int(size.argmax())
        chosen.append(best)
        left[:, best] = 0
    return np.sort(np.asarray(chosen, np.int64))


def _rounding(grid: Grid, chosen: np.ndarray, tail: np.ndarray) -> Round:
    """Nearest codes; of the chosen channels bf16, kept in `tail` f32 [count, N]: these make up for
    the errors of others."""
    places = {int(channel): i for i, channel in enumerate(chosen)}
    codes = nearest([grid], 1)

    def rounding(channel: int, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        place = places.get(channel)
        if place is None:
            return codes(0, values)
        tail[place] = values.astype(np.float32)
        return np.full(values.shape, float(ZERO), np.float32), tail[place]

    return rounding


FORMATS = (OutlierSplit(32),)

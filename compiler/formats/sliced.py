"""One matrix of integer codes whose upper bits are codes of fewer bits: a precision for each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import combinations

import numpy as np

from tilewright.compiler.formats.activations import Activation, Int8, Rounded
from tilewright.compiler.formats.correction import corrected
from tilewright.compiler.formats.format import Encoded, WeightFormat, checked
from tilewright.compiler.formats.grids import Grid, stored
from tilewright.compiler.formats.inputs import Inputs
from tilewright.compiler.formats.joint import common, joint, nearest, refine

WIDTHS = (2, 3, 4, 6, 8)
"""Bits that a slice can have."""

GROUP = 64
"""Channels of a column that share a scale and a zero-point."""


@dataclass(frozen=True)
class Sliced(WeightFormat):
    """The upper ``bits`` bits of codes q in 0 .. 2^c - 1, c the widest of ``slices``.

    A slice of r bits is f = q >> (c - r), and stands for the middle of all codes that begin so:

        w = s (2^(c-r) (f + 1/2) - 1/2 - z)

    with the scale s and the zero-point z of the group, k // 64; s is 2^(n-c) times what is stored,
    n being the fewest bits of a slice. That is the rounding of MatGPTQ:
    f = clip(round-half-up(q' / 2^(c-r))) for q' = q - 2^(c-r-1), but no slice needs a bit below its
    own. All slices have one `Encoded` (`stored`): codes uint8 [K, N], scales f32 [G, N] (values of
    f16), zeros uint8 [G, N]. slices: rising. reads: how X is read.

    Codes are rounded by all slices together: each has its own sums of errors (`joint`), where the
    papers have their mean; further bits are then refined within what the narrowest slice chose.
    Nair et al., Matryoshka Quantization, arXiv 2502.06786, and its GPTQ, MatGPTQ (IST-DASLab).
    """

    bits: int
    slices: tuple[int, ...]
    reads: Activation = field(default_factory=Rounded)

    def __post_init__(self) -> None:
        known = all(a < b for a, b in zip(self.slices, self.slices[1:], strict=False))
        if not known or not set(self.slices) <= set(WIDTHS) or self.bits not in self.slices:
            raise ValueError(f"there are no such slices: {self}")

    @property
    def name(self) -> str:
        """As ``w4of84-g64``: 4 bits of codes that are sliced at 8 and 4."""
        every = "".join(str(r) for r in reversed(self.slices))
        return f"w{self.bits}of{every}{self.reads.name}-g{GROUP}"

    @property
    def activation(self) -> Activation:
        return self.reads

    @property
    def widest(self) -> int:
        """Bits of the codes."""
        return self.slices[-1]

    @property
    def stored(self) -> Sliced:
        return Sliced(self.widest, self.slices)

    def supports(self, k: int, n: int) -> bool:
        return n > 0 and k > GROUP

    def bytes(self, k: int, n: int) -> int:
        """Of all slices together."""
        return -(-k * n * self.widest // 8) + 3 * -(-k // GROUP) * n

    def encode(self, weights: np.ndarray, inputs: Inputs | None = None) -> Encoded:
        """Codes that are nearest for all slices, or GPTQ's where calibration inputs say that these
        are better."""
        w = checked(weights)
        parts = [slice(i, i + GROUP) for i in range(0, len(w), GROUP)]
        weight = np.ones(len(w)) if inputs is None else inputs.importance + 1e-12
        grids = [common(w[part], self.slices, weight[part]) for part in parts]
        codes = [nearest(w[part], g, self.slices) for part, g in zip(parts, grids, strict=True)]
        plain = self._encoded(np.concatenate(codes), grids)
        if inputs is None:
            return plain
        better = self._encoded(joint(w, inputs, grids, GROUP, self.slices), grids)
        narrowest = replace(self, bits=self.slices[0])
        tried = [plain, better, self._corrected(w, better, inputs, narrowest)]
        best = min(tried, key=lambda e: narrowest.error(w, e, inputs))
        fine = refine(w, best["codes"], inputs.gram, self._grids(best), GROUP, self.slices)
        return Encoded(best.shape, {**best.arrays, "codes": fine})

    def _grids(self, found: Encoded) -> list[Grid]:
        """Those of the widest slice."""
        share = np.float32(2.0 ** (self.slices[0] - self.widest))
        return [
            Grid(self.widest, s * share, z.astype(np.int32))
            for s, z in zip(found["scales"], found["zeros"], strict=True)
        ]

    def _corrected(
        self, w: np.ndarray, found: Encoded, inputs: Inputs, narrowest: Sliced
    ) -> Encoded:
        """With scales that fit the codes of the narrowest slice, and codes that fit these."""
        ones = {**found.arrays, "scales": np.ones_like(found["scales"])}
        steps = narrowest.decode(Encoded(found.shape, ones))
        scales = corrected(
            w, steps, found["scales"], GROUP, inputs.gram, lambda s: stored(s, half=True)
        )
        grids = self._grids(Encoded(found.shape, {**found.arrays, "scales": scales}))
        return self._encoded(joint(w, inputs, grids, GROUP, self.slices), grids)

    def _encoded(self, codes: np.ndarray, grids: Sequence[Grid]) -> Encoded:
        step = 2 ** (self.widest - self.slices[0])
        arrays: dict[str, np.ndarray] = {
            "codes": codes.astype(np.uint8),
            "scales": np.stack([g.scales for g in grids]) * np.float32(step),
            "zeros": np.stack([g.zeros for g in grids]).astype(np.uint8),
        }
        return Encoded((codes.shape[0], codes.shape[1]), arrays)

    def decode(self, encoded: Encoded) -> np.ndarray:
        step = 2 ** (self.widest - self.bits)
        found = (encoded["codes"] // np.uint8(step)).astype(np.float32)
        scales = encoded["scales"] * np.float32(2.0 ** (self.slices[0] - self.bits))
        zeros = (encoded["zeros"].astype(np.float32) + 0.5) / np.float32(step) - np.float32(0.5)
        for g in range(len(scales)):
            part = found[g * GROUP : (g + 1) * GROUP]
            part -= zeros[g]
            part *= scales[g]
        return found


@cache
def every() -> tuple[Sliced, ...]:
    """All slices of all kinds of codes, however X is read. They are for `tilewright compile
    --slices`: nothing else is offered them, so FORMATS has none."""
    kinds = [s for count in range(1, len(WIDTHS) + 1) for s in combinations(WIDTHS, count)]
    reads: tuple[Activation, ...] = (Rounded(), Int8(GROUP))
    return tuple(Sliced(r, kind, read) for kind in kinds for r in kind for read in reads)


def parse(name: str) -> Sliced | None:
    """The slice that a name is of."""
    return _by_name().get(name)


@cache
def _by_name() -> dict[str, Sliced]:
    return {made.name: made for made in every()}

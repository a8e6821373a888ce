"""Integer weights of 2 to 8 bits with one scale and zero-point for each group of a column."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from tilewright.compiler.formats.activations import Activation, Int8, Rounded
from tilewright.compiler.formats.correction import corrected
from tilewright.compiler.formats.format import Encoded, WeightFormat, checked
from tilewright.compiler.formats.gptq import Round, gptq
from tilewright.compiler.formats.grids import TINY, Grid, fit, stored
from tilewright.compiler.formats.inputs import Inputs

CORRECTED = 5
"""Bits below which scales are fitted to the codes: errors fall by 1 to 4 %, at 8 bits by less."""


@dataclass(frozen=True)
class Integers(WeightFormat):
    """w[k, n] = s[g, n] (q[k, n] - z[g, n]), g = k // group, q in 0 .. 2^bits - 1.

    group: channels that share a scale; 0: all of K, one scale a column. symmetric: z is
    2^(bits-1). reads: how X is read. Encoded as codes uint8 [K, N], scales f32 [G, N] (values of
    f16 where there are groups), zeros uint8 [G, N].
    """

    bits: int
    group: int = 0
    symmetric: bool = False
    reads: Activation = field(default_factory=Rounded)

    @property
    def by_columns(self) -> bool:
        return True

    @property
    def name(self) -> str:
        group = f"-g{self.group}" if self.group else ""
        return f"w{self.bits}{self.reads.name}{group}{'-sym' if self.symmetric else ''}"

    @property
    def activation(self) -> Activation:
        return self.reads

    @property
    def stored(self) -> Integers:
        return replace(self, reads=Rounded())

    def groups(self, k: int) -> int:
        """Number of groups of a column of k weights."""
        return -(-k // self.group) if self.group else 1

    def supports(self, k: int, n: int) -> bool:
        return n > 0 and k > self.group

    def bytes(self, k: int, n: int) -> int:
        zeros = 0 if self.symmetric else self.groups(k) * n
        scale = 2 if self.group else 4
        return -(-k * n * self.bits // 8) + self.groups(k) * n * scale + zeros

    def encode(self, weights: np.ndarray, inputs: Inputs | None = None) -> Encoded:
        """Nearest codes, or GPTQ's where calibration inputs say that these are better."""
        w = checked(weights)
        size = self.group or max(len(w), 1)
        importance = None if inputs is None else inputs.importance + 1e-12
        grids = [
            fit(
                w[i : i + size],
                self.bits,
                self.symmetric,
                half=bool(self.group),
                importance=None if importance is None else importance[i : i + size],
            )
            for i in range(0, len(w), size)
        ]
        codes = [g.codes(w[i * size : (i + 1) * size]) for i, g in enumerate(grids)]
        plain = self._encoded(np.concatenate(codes), grids)
        if inputs is None:
            return plain

        better = self._encoded(gptq(w, inputs, nearest(grids, size)), grids)
        tried = [plain, better]
        if self.bits < CORRECTED:
            tried.append(self._corrected(w, better, inputs))
        return min(tried, key=lambda e: self.error(w, e, inputs))

    def _corrected(self, w: np.ndarray, found: Encoded, inputs: Inputs) -> Encoded:
        """With scales that fit the codes, codes that fit these, and scales that fit those."""
        size = self.group or max(len(w), 1)
        for last in (False, True):
            zeros = found["zeros"].astype(np.float32)
            steps = found["codes"] - np.repeat(zeros, size, axis=0)[: len(w)]
            scales = corrected(w, steps, found["scales"], size, inputs.gram, self._kept)
            grids = [
                Grid(self.bits, s, z.astype(np.int32))
                for s, z in zip(scales, found["zeros"], strict=True)
            ]
            codes = found["codes"] if last else gptq(w, inputs, nearest(grids, size))
            found = self._encoded(codes, grids)
        return found

    def _kept(self, scales: np.ndarray) -> np.ndarray:
        return stored(scales, half=bool(self.group))

    def _encoded(self, codes: np.ndarray, grids: list[Grid]) -> Encoded:
        arrays = {
            "codes": codes.astype(np.uint8),
            "scales": np.stack([g.scales for g in grids]),
            "zeros": np.stack([g.zeros for g in grids]).astype(np.uint8),
        }
        return Encoded((codes.shape[0], codes.shape[1]), arrays)

    def decode(self, encoded: Encoded) -> np.ndarray:
        size = self.group or max(encoded.shape[0], 1)
        found = encoded["codes"].astype(np.float32)
        for g, (scales, zeros) in enumerate(zip(encoded["scales"], encoded["zeros"], strict=True)):
            part = found[g * size : (g + 1) * size]
            part -= zeros
            part *= scales
        return found


def nearest(grids: Sequence[Grid], size: int) -> Round:
    """Nearest codes f32 on the grid of each channel's group."""
    tables = []
    for grid in grids:
        scales, zeros = grid.scales, grid.zeros.astype(np.float32)
        tiny = scales < TINY
        inverse = np.where(tiny, 0, 1 / np.where(tiny, 1, scales)).astype(np.float32)
        tables.append((scales, zeros, inverse, 2**grid.bits - 1 - zeros))

    def rounding(channel: int, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        scales, zeros, inverse, top = tables[channel // size]
        steps = values * inverse
        np.rint(steps, out=steps)
        np.maximum(steps, -zeros, out=steps)
        np.minimum(steps, top, out=steps)
        return steps + zeros, steps * scales

    return rounding


_BROUGHT = re.compile(r"w([248])(?:a8b(\d+))?-g(\d+)(-sym)?")


def parse(name: str) -> Integers | None:
    """The format of codes that a model brings: groups of a power of 2 from 16 on."""
    found = _BROUGHT.fullmatch(name)
    if found is None:
        return None
    bits, block, group = int(found[1]), found[2], int(found[3])
    if group < 16 or group & (group - 1) or block not in (None, found[3]):
        return None
    return Integers(bits, group, bool(found[4]), Int8(group) if block else Rounded())


FORMATS = (
    Integers(8, symmetric=True),
    Integers(8, symmetric=True, reads=Int8()),
    Integers(8, 64),
    *(Integers(bits, 64) for bits in (6, 5)),
    *(Integers(bits, group) for bits in (4, 3, 2) for group in (32, 64, 128)),
    *(Integers(bits, 64, reads=Int8(64)) for bits in (8, 6, 5, 4, 3, 2)),
    Integers(4, 128, reads=Int8(128)),
)

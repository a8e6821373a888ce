"""2-bit weights whose zero-points are multiples of a half."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from tilewright.compiler.formats.activations import Activation, Int8, Rounded
from tilewright.compiler.formats.correction import corrected
from tilewright.compiler.formats.format import Encoded, WeightFormat, checked
from tilewright.compiler.formats.gptq import Round, gptq
from tilewright.compiler.formats.grids import CHUNK, SHRINK, TINY, stored
from tilewright.compiler.formats.inputs import Inputs

TOP = 3
"""The greatest code."""

MIDDLE = TOP / 2
"""The zero-point of levels that are symmetric: -1.5, -0.5, 0.5 and 1.5 steps."""

Grid = tuple[np.ndarray, np.ndarray]
"""Of a group of every column: scales f32 [N], values of f16, and zero-points f32 [N]."""


@dataclass(frozen=True)
class Halves(WeightFormat):
    """w[k, n] = s[g, n] (q[k, n] - z[g, n] / 2), g = k // group, q in 0 .. 3, z in 0 .. 6.

    With four levels a zero-point that is whole leaves one side a level short; the half between has
    as many on either side. Encoded as codes uint8 [K, N], scales f32 [G, N] (values of f16), zeros
    uint8 [G, N], which are z.
    """

    group: int
    reads: Activation = field(default_factory=Rounded)

    @property
    def by_columns(self) -> bool:
        return True

    @property
    def name(self) -> str:
        return f"w2h{self.reads.name}-g{self.group}"

    @property
    def activation(self) -> Activation:
        return self.reads

    @property
    def stored(self) -> Halves:
        return replace(self, reads=Rounded())

    def supports(self, k: int, n: int) -> bool:
        return n > 0 and k > self.group

    def bytes(self, k: int, n: int) -> int:
        return -(-k * n // 4) + 3 * -(-k // self.group) * n

    def encode(self, weights: np.ndarray, inputs: Inputs | None = None) -> Encoded:
        """Nearest codes, or GPTQ's with scales that are fitted to them (`corrected`)."""
        w, size = checked(weights), self.group
        importance = np.ones(len(w)) if inputs is None else inputs.importance + 1e-12
        parts = [slice(i, i + size) for i in range(0, len(w), size)]
        grids = [fit(w[part], importance[part]) for part in parts]
        codes = [
            nearest([grid], size)(0, w[part])[0] for grid, part in zip(grids, parts, strict=True)
        ]
        plain = self._encoded(np.concatenate(codes), grids)
        if inputs is None:
            return plain
        found = better = self._encoded(gptq(w, inputs, nearest(grids, size)), grids)
        for last in (False, True):
            steps = found["codes"] - self._zeros(found)
            scales = corrected(w, steps, found["scales"], size, inputs.gram, _kept)
            grids = [(s, z) for s, (_, z) in zip(scales, grids, strict=True)]
            codes_ = found["codes"] if last else gptq(w, inputs, nearest(grids, size))
            found = self._encoded(codes_, grids)
        return min((plain, better, found), key=lambda e: self.error(w, e, inputs))

    def decode(self, encoded: Encoded) -> np.ndarray:
        scales = np.repeat(encoded["scales"], self.group, axis=0)[: encoded.shape[0]]
        found: np.ndarray = (encoded["codes"] - self._zeros(encoded)) * scales
        return found

    def _zeros(self, encoded: Encoded) -> np.ndarray:
        """Zero-points of all weights, f32 [K, N]."""
        halves = np.repeat(encoded["zeros"], self.group, axis=0)[: encoded.shape[0]]
        found: np.ndarray = halves * np.float32(0.5)
        return found

    def _encoded(self, codes: np.ndarray, grids: Sequence[Grid]) -> Encoded:
        arrays = {
            "codes": codes.astype(np.uint8),
            "scales": np.stack([scales for scales, _ in grids]),
            "zeros": np.rint(2 * np.stack([zeros for _, zeros in grids])).astype(np.uint8),
        }
        return Encoded((codes.shape[0], codes.shape[1]), arrays)


def fit(w: np.ndarray, importance: np.ndarray) -> Grid:
    """The grid of weights [G, N] with the least squared error, rows weighted by `importance` [G],
    of all ranges that `SHRINK` allows, about any half and about the middle."""
    weight = (importance / (importance.max(initial=0) or 1.0)).astype(np.float32)
    width = max(CHUNK // max(len(w), 1), 1)
    parts = [_fit(w[:, i : i + width], weight) for i in range(0, max(w.shape[1], 1), width)]
    scales, zeros = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return scales, zeros


def _fit(w: np.ndarray, weight: np.ndarray) -> Grid:
    """`fit` of columns that stay in the cache."""
    low, high = w.min(axis=0, initial=0.0), w.max(axis=0, initial=0.0)
    most = np.maximum(high, -low)
    kept: Grid = (np.zeros(w.shape[1], np.float32), np.zeros(w.shape[1], np.float32))
    least = np.full(w.shape[1], np.inf)
    for share in SHRINK:
        scales = _kept(np.float32(share / TOP) * (high - low))
        zeros = np.rint(-2 * share * low * _inverse(scales)).clip(0, 2 * TOP) / 2
        even = _kept(np.float32(share / MIDDLE) * most)
        for s, z in ((scales, zeros), (even, np.full_like(even, MIDDLE))):
            error = weight @ np.square(nearest([(s, z)], len(w) or 1)(0, w)[1] - w)
            better = error < least
            least = np.where(better, error, least)
            kept = np.where(better, s, kept[0]), np.where(better, z, kept[1])
    return kept


def nearest(grids: Sequence[Grid], size: int) -> Round:
    """Nearest codes f32 on the grid of each channel's group."""
    tables = [(scales, zeros.astype(np.float32), _inverse(scales)) for scales, zeros in grids]

    def rounding(channel: int, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        scales, zeros, inverse = tables[channel // size]
        codes = np.rint(values * inverse + zeros).clip(0, TOP)
        return codes, (codes - zeros) * scales

    return rounding


def _inverse(scales: np.ndarray) -> np.ndarray:
    tiny = scales < TINY
    found: np.ndarray = np.where(tiny, 0, 1 / np.where(tiny, 1, scales)).astype(np.float32)
    return found


def _kept(scales: np.ndarray) -> np.ndarray:
    return stored(scales, half=True)


FORMATS = (Halves(64), Halves(64, Int8(64)))

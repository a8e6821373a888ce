"""Weights of which some are zero and are not stored: pruned ones, and those of models that are."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tilewright.compiler.formats.activations import Activation, Int8, Rounded
from tilewright.compiler.formats.format import Encoded, WeightFormat, checked
from tilewright.compiler.formats.grids import Grid, fit
from tilewright.compiler.formats.inputs import Inputs
from tilewright.compiler.formats.pruning import (
    Blocks,
    Groups,
    Pattern,
    Round,
    Unstructured,
    sparsegpt,
    wanda_scores,
)

ZERO = 128
"""The code of no weight on the grid of 8 bits."""


@dataclass(frozen=True)
class Sparse(WeightFormat):
    """Weights of ``pattern``, bf16 or 8 bits with a scale a column; without one, those that are not
    zero in W.

    bits: 16 or 8. Encoded as codes [K, N], 0 where there is no weight: uint16, the upper half of
    the f32, or int8 with scales f32 [1, N]. Rows of X are read as bf16, or in 8 bits by row.
    """

    bits: int
    pattern: Pattern | None = None
    reads: Activation = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "reads", Int8() if self.bits == 8 else Rounded())

    @property
    def name(self) -> str:
        kind = "w8a8" if self.bits == 8 else "bf16"
        return f"{kind}-{self.pattern.name if self.pattern else 'zeros'}"

    @property
    def activation(self) -> Activation:
        return self.reads

    @property
    def structure(self) -> str:
        return "zeros" if self.pattern is None else self.pattern.structure

    def chance(self, k: int, n: int) -> float | None:
        return None if self.pattern is None else self.pattern.chance

    @property
    def by_columns(self) -> bool:
        return not isinstance(self.pattern, Blocks)

    @property
    def columnwise(self) -> bool:
        return self.by_columns

    def foreseen(self, weights: np.ndarray, inputs: Inputs, notes: dict[str, Any]) -> float:
        """That of Wanda's choice, which is 1.04 to 1.1 times that of the better one."""
        return self.error(weights, self.nearest(weights, inputs), inputs)

    def supports(self, k: int, n: int) -> bool:
        wide, deep = 1, 4
        if isinstance(self.pattern, Blocks):
            wide, deep = self.pattern.wide, self.pattern.deep
        return k >= 4 * deep and n >= wide

    def kept(self, k: int, n: int) -> int:
        """Most weights of [k, n] that are stored."""
        return k * n if self.pattern is None else self.pattern.kept(k, n)

    def bytes(self, k: int, n: int) -> int:
        kept = self.kept(k, n)
        if isinstance(self.pattern, Blocks):
            places = 2 * (kept // (self.pattern.wide * self.pattern.deep))
        else:
            places = -(-k * n // 8)
        return kept * self.bits // 8 + places + (4 * n if self.bits == 8 else 0)

    def encode(self, weights: np.ndarray, inputs: Inputs | None = None) -> Encoded:
        """The largest weights, rounded to nearest; with inputs of calibration the better of Wanda's
        choice and SparseGPT's, by its sample."""
        w = checked(weights)
        if inputs is None:
            return self._nearest(w, np.square(w, dtype=np.float64), None)
        importance = inputs.importance + 1e-12
        plain = self._nearest(w, wanda_scores(w, importance), importance)
        grid = self._grid(w, importance)
        pattern = w != 0 if self.pattern is None else self.pattern
        values, _ = sparsegpt(w, inputs.gram, pattern, self._rounding(grid), inputs.in_order)
        better = self._encoded(values, grid)
        return min(plain, better, key=lambda e: self.error(w, e, inputs))

    def nearest(self, weights: np.ndarray, inputs: Inputs) -> Encoded:
        w, importance = checked(weights), inputs.importance + 1e-12
        return self._nearest(w, wanda_scores(w, importance), importance)

    def decode(self, encoded: Encoded) -> np.ndarray:
        codes = encoded["codes"]
        if self.bits == 8:
            found: np.ndarray = codes.astype(np.float32) * encoded["scales"]
            return found
        return (codes.astype(np.uint32) << 16).view(np.float32)

    def _nearest(self, w: np.ndarray, scores: np.ndarray, importance: np.ndarray | None) -> Encoded:
        mask = w != 0 if self.pattern is None else self.pattern.by_scores(scores)
        kept = np.where(mask, w, np.float32(0))
        grid = self._grid(kept, importance)
        rounding = self._rounding(grid)
        return self._encoded(np.where(mask, rounding(0, kept), np.float32(0)), grid)

    def _grid(self, w: np.ndarray, importance: np.ndarray | None) -> Grid | None:
        if self.bits == 16:
            return None
        return fit(w, 8, symmetric=True, half=False, importance=importance)

    def _rounding(self, grid: Grid | None) -> Round:
        import ml_dtypes

        if grid is not None:
            return lambda _, values: grid.rounded(values)
        return lambda _, values: (
            values.astype(np.float32).astype(ml_dtypes.bfloat16).astype(np.float32)
        )

    def _encoded(self, values: np.ndarray, grid: Grid | None) -> Encoded:
        k, n = values.shape
        if grid is None:
            codes = (values.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
            codes[codes == 1 << 15] = 0  # a zero with a sign
            return Encoded((k, n), {"codes": codes})
        codes = (grid.codes(values) - ZERO).astype(np.int8)
        return Encoded((k, n), {"codes": codes, "scales": grid.scales[None]})


def compressed(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Codes [K, N] of which at most two of every four channels are not 0, as sparse tensor cores
    take them: values [K / 2, N] in their order, and uint8 [K / 4, N], i | j << 2 for the channels
    i < j of a group's two values (K filled up with zeros).

    Of groups with fewer: one value at i < 3 has j = 3; one at 3 is the second, beside i = 0; none
    has 2 and 3. ValueError for other matrices.
    """
    k, n = codes.shape
    filled = np.zeros((-(-k // 4), 4, n), codes.dtype)
    filled.reshape(-1, n)[:k] = codes
    there = filled != 0
    count = there.sum(axis=1)
    if (count > 2).any():
        raise ValueError("more than two of four channels are not zero")
    first = there.argmax(axis=1)
    last = 3 - there[:, ::-1].argmax(axis=1)
    last = np.where(count == 1, 3, last)
    first = np.where((count == 1) & (first == 3), 0, first)
    first, last = np.where(count == 0, 2, first), np.where(count == 0, 3, last)
    pairs = [np.take_along_axis(filled, i[:, None], axis=1) for i in (first, last)]
    values = np.concatenate(pairs, axis=1).reshape(-1, n)
    return values, (first | last << 2).astype(np.uint8)


def expanded(values: np.ndarray, places: np.ndarray, k: int) -> np.ndarray:
    """The codes [k, N] of which `compressed` made ``values`` and ``places``."""
    n = values.shape[1]
    filled = np.zeros((len(places), 4, n), values.dtype)
    pairs = values.reshape(-1, 2, n)
    for i, place in enumerate((places & 3, places >> 2)):
        np.put_along_axis(filled, place[:, None].astype(np.int64), pairs[:, i : i + 1], axis=1)
    return filled.reshape(-1, n)[:k]


FORMATS = (
    Sparse(16, Unstructured(50)),
    Sparse(8),
    Sparse(8, Unstructured(50)),
    Sparse(16, Groups(2, 4)),
    *(Sparse(8, Blocks(percent, deep=4, wide=16)) for percent in (70, 90)),
)

"""Weights in f32: a part of other formats."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tilewright.compiler.formats.activations import Activation, Exact
from tilewright.compiler.formats.format import Encoded, WeightFormat, checked
from tilewright.compiler.formats.inputs import Inputs


@dataclass(frozen=True)
class Float32(WeightFormat):
    """As they are. Encoded as values f32 [K, N]."""

    @property
    def by_columns(self) -> bool:
        return True

    @property
    def name(self) -> str:
        return "f32"

    @property
    def activation(self) -> Activation:
        return Exact()

    def bytes(self, k: int, n: int) -> int:
        return 4 * k * n

    def encode(self, weights: np.ndarray, inputs: Inputs | None = None) -> Encoded:
        w = checked(weights)
        return Encoded((w.shape[0], w.shape[1]), {"values": w})

    def decode(self, encoded: Encoded) -> np.ndarray:
        return encoded["values"]

"""Weights rounded to short floating-point numbers, read as they are."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from tilewright.compiler.formats.activations import Activation, Rounded
from tilewright.compiler.formats.format import Encoded, WeightFormat, checked
from tilewright.compiler.formats.inputs import Inputs


@dataclass(frozen=True)
class Bfloat16(WeightFormat):
    """Weights and inputs rounded to bf16, ties to even: what kernels of the class 1e-2 compute.

    Encoded as codes uint16 [K, N], the upper half of the f32.
    """

    reads: Activation = field(default_factory=Rounded)

    @property
    def by_columns(self) -> bool:
        return True

    @property
    def name(self) -> str:
        return "bf16"

    @property
    def activation(self) -> Activation:
        return self.reads

    def bytes(self, k: int, n: int) -> int:
        return 2 * k * n

    def encode(self, weights: np.ndarray, inputs: Inputs | None = None) -> Encoded:
        import ml_dtypes

        w = checked(weights)
        return Encoded(
            (w.shape[0], w.shape[1]), {"codes": w.astype(ml_dtypes.bfloat16).view(np.uint16)}
        )

    def decode(self, encoded: Encoded) -> np.ndarray:
        wide = encoded["codes"].astype(np.uint32) << 16
        return wide.view(np.float32)


FORMATS = (Bfloat16(),)

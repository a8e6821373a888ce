"""Weights as 8-bit floating-point numbers with one scale a column."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from tilewright.compiler.formats.activations import Activation, Exact, Rounded
from tilewright.compiler.formats.format import Encoded, WeightFormat, checked
from tilewright.compiler.formats.gptq import gptq
from tilewright.compiler.formats.inputs import Inputs

GREATEST = {"e4m3": 448.0, "e5m2": 57344.0}
"""Greatest finite number of each kind."""

_TYPES = {"e4m3": "float8_e4m3fn", "e5m2": "float8_e5m2"}


@dataclass(frozen=True)
class Float8(WeightFormat):
    """w[k, n] = s[n] f[k, n], f a finite number of ``kind`` as ONNX has them: e4m3 (E4M3FN) with 3
    bits of mantissa from 2^-9 to 448, e5m2 with 2 from 2^-16 to 57344.

    Encoded as codes uint8 [K, N], the bits of f, and scales f32 [1, N]. reads: how X is read.
    Micikevicius et al., FP8 Formats for Deep Learning, arXiv 2209.05433.
    """

    kind: str
    reads: Activation = field(default_factory=Rounded)

    @property
    def by_columns(self) -> bool:
        return True

    @property
    def name(self) -> str:
        return f"f8{self.kind}{self.reads.name}"

    @property
    def activation(self) -> Activation:
        return self.reads

    @property
    def stored(self) -> Float8:
        return Float8(self.kind)

    def bytes(self, k: int, n: int) -> int:
        return k * n + 4 * n

    def encode(self, weights: np.ndarray, inputs: Inputs | None = None) -> Encoded:
        """Nearest numbers, or GPTQ's where calibration inputs say that these are better."""
        w = checked(weights)
        most = np.abs(w).max(axis=0, initial=0)
        # A power of two: numbers that are of this kind already are kept.
        with np.errstate(divide="ignore"):
            power = np.ceil(np.log2(most / np.float32(GREATEST[self.kind])))
        scales = np.where(most > 0, np.exp2(np.clip(power, -100, 120)), 1).astype(np.float32)
        plain = self._encoded(self._codes(w / scales), scales)
        if inputs is None:
            return plain

        def rounding(_channel: int, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            codes = self._codes(values / scales)
            return codes, self._numbers(codes) * scales

        better = self._encoded(gptq(w, inputs, rounding), scales)
        return min(plain, better, key=lambda e: self.error(w, e, inputs))

    def _codes(self, values: np.ndarray) -> np.ndarray:
        import ml_dtypes

        most = GREATEST[self.kind]
        kept = np.clip(values, -most, most).astype(np.float32)
        found: np.ndarray = kept.astype(getattr(ml_dtypes, _TYPES[self.kind])).view(np.uint8)
        return found

    def _numbers(self, codes: np.ndarray) -> np.ndarray:
        import ml_dtypes

        found: np.ndarray = codes.view(getattr(ml_dtypes, _TYPES[self.kind])).astype(np.float32)
        return found

    def _encoded(self, codes: np.ndarray, scales: np.ndarray) -> Encoded:
        return Encoded((codes.shape[0], codes.shape[1]), {"codes": codes, "scales": scales[None]})

    def decode(self, encoded: Encoded) -> np.ndarray:
        found: np.ndarray = self._numbers(np.ascontiguousarray(encoded["codes"]))
        found = found * encoded["scales"]
        return found


FORMATS = tuple(Float8(kind) for kind in GREATEST)

_EXACT = {made.name: made for made in (Float8(kind, Exact()) for kind in GREATEST)}


def parse(name: str) -> Float8 | None:
    """The formats of numbers that a model brings, beside which X is read as it is."""
    return _EXACT.get(name)

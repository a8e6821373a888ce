"""Rows of X as 8-bit floats, beside weights of the same kind."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tilewright.compiler.formats.activations import LEAST, Activation
from tilewright.compiler.formats.float8 import GREATEST, Float8

MOST = np.float32(GREATEST["e4m3"])


@dataclass(frozen=True)
class Float8Rows(Activation):
    """E4M3FN numbers with a scale = absmax / 448 of each row, ties to even. A row that is nowhere
    as great as LEAST has scale 0 and zeros.

    Sun et al., Hybrid 8-bit Floating Point Training and Inference, NeurIPS 2019; Micikevicius et
    al., FP8 Formats for Deep Learning, arXiv 2209.05433.
    """

    @property
    def name(self) -> str:
        return "a8e4m3"

    def read(self, x: np.ndarray) -> np.ndarray:
        codes, scales = self.quantize(x)
        found: np.ndarray = codes.astype(np.float64) * scales.astype(np.float64)
        return found

    def quantize(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Numbers float8_e4m3fn [T, K] and scales f32 [T, 1] of X f32 [T, K].

        As kernels compute them in f32: the inverse scale 448 / absmax is rounded once.
        """
        import ml_dtypes

        wide = x.astype(np.float32)
        absmax = np.abs(wide).max(axis=1, keepdims=True, initial=0.0)
        absmax = np.where(absmax >= LEAST, absmax, np.float32(0))
        with np.errstate(divide="ignore"):
            inverse = np.where(absmax > 0, MOST / absmax, np.float32(0))
        kept = np.clip(wide * inverse, -MOST, MOST)
        return kept.astype(ml_dtypes.float8_e4m3fn), (absmax / MOST).astype(np.float32)


FORMATS = (Float8("e4m3", Float8Rows()),)

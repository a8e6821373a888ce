"""Binary coding: a weight is a sum of scales, each added or subtracted as one bit says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tilewright.compiler.formats.activations import Activation, Int8
from tilewright.compiler.formats.binary import Levels, fit, refitted, signs
from tilewright.compiler.formats.format import Encoded, WeightFormat, checked
from tilewright.compiler.formats.gptq import Round, gptq
from tilewright.compiler.formats.inputs import Inputs

BLOCK = 64
"""Channels whose inputs share a scale where weights have one for all of K."""

_LEAST, _MOST = -126, 127
"""Exponents of powers of two that are scales."""

_HALF = 65504.0
"""Greatest f16."""


@dataclass(frozen=True)
class Planes(WeightFormat):
    """w[k, n] = sum over i of scales[g, i, n] (2 b_i[k, n] - 1), g = k // group.

    bits: planes b_i. group: channels that share their scales; 0: all of K. shift: scales are powers
    of two, of which one byte is stored; else f16, f32 where they are one for all of K. X is read as
    8-bit codes by group (by `BLOCK` channels where there are none). Encoded as codes uint8 [K, N],
    bit i of which is b_i, and scales f32 [G, bits, N].

    Park et al., LUT-GEMM, arXiv 2206.09557; You et al., ShiftAddLLM, arXiv 2406.05981.
    """

    bits: int
    group: int = 0
    shift: bool = False

    @property
    def name(self) -> str:
        group = f"-g{self.group}" if self.group else ""
        return f"{'shift' if self.shift else 'bcq'}{self.bits}{group}"

    @property
    def activation(self) -> Activation:
        return Int8(self.group or BLOCK)

    def groups(self, k: int) -> int:
        """Number of groups of a column of k weights."""
        return -(-k // self.group) if self.group else 1

    @property
    def scale_bytes(self) -> int:
        """Of a stored scale."""
        return 1 if self.shift else 2 if self.group else 4

    def supports(self, k: int, n: int) -> bool:
        return n > 0 and k > self.group

    def bytes(self, k: int, n: int) -> int:
        return -(-k * n * self.bits // 8) + self.groups(k) * n * self.bits * self.scale_bytes

    def encode(self, weights: np.ndarray, inputs: Inputs | None = None) -> Encoded:
        """Scales and signs in turn, each the best for the other, weighted by the energy of the
        inputs; then, where calibration saw some, GPTQ's codes, scales that fit these through the
        Gram matrix and GPTQ again, if that is better on its sample."""
        w = checked(weights)
        size = self.group or max(len(w), 1)
        starts = range(0, len(w), size)
        energy = np.ones(len(w)) if inputs is None else inputs.importance + 1e-12
        scales = np.stack(
            [fit(w[i : i + size], self.bits, energy[i : i + size], self.rounded) for i in starts]
        )
        levels = [Levels.of(part) for part in scales]
        nearest = [of.codes(w[i : i + size]) for of, i in zip(levels, starts, strict=True)]
        plain = _encoded(np.concatenate(nearest), scales)
        if inputs is None:
            return plain
        found = [plain]
        for _ in range(2):
            codes = gptq(w, inputs, _rounding(levels, size))
            found.append(_encoded(codes, scales))
            scales = refitted(w, codes, scales, inputs.gram, self.rounded)
            levels = [Levels.of(part) for part in scales]
            found.append(_encoded(codes, scales))
        return min(found, key=lambda e: self.error(w, e, inputs))

    def decode(self, encoded: Encoded) -> np.ndarray:
        size = self.group or max(encoded.shape[0], 1)
        codes, scales = encoded["codes"], encoded["scales"]
        found = np.zeros(encoded.shape, np.float32)
        for g in range(len(scales)):
            rows = slice(g * size, (g + 1) * size)
            for scale, sign in zip(scales[g], signs(codes[rows], self.bits), strict=True):
                found[rows] += scale * sign
        return found

    def rounded(self, scales: np.ndarray) -> np.ndarray:
        """Scales as they are stored, f32."""
        if self.shift:
            with np.errstate(divide="ignore"):
                exponents = np.rint(np.log2(np.abs(scales)))
            powers = np.exp2(exponents.clip(_LEAST, _MOST))
            return np.where(scales > 0, powers, 0).astype(np.float32)
        if not self.group:
            return scales.astype(np.float32)
        found: np.ndarray = scales.clip(-_HALF, _HALF).astype(np.float16).astype(np.float32)
        return found


def _rounding(levels: Sequence[Levels], size: int) -> Round:
    """Nearest codes of the levels of each channel's group."""
    return lambda channel, values: levels[channel // size].nearest(values)


def _encoded(codes: np.ndarray, scales: np.ndarray) -> Encoded:
    arrays = {"codes": codes.astype(np.uint8), "scales": scales}
    return Encoded((codes.shape[0], codes.shape[1]), arrays)


FORMATS = (
    *(Planes(bits, group) for bits in (1, 2, 3, 4) for group in (0, 64, 128)),
    *(Planes(bits, group, shift=True) for bits in (1, 2, 3, 4) for group in (64, 128)),
)

"""Integer codes in blocks of a column as quantized models store them: nothing is rounded again."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tilewright.compiler.formats.activations import Activation, Exact
from tilewright.compiler.formats.format import Encoded, WeightFormat, checked
from tilewright.compiler.formats.grids import fit

BITS = (2, 4, 8)


@dataclass(frozen=True)
class Blocks(WeightFormat):
    """w[k, n] = s[g, n] (q[k, n] - z[g, n]), g = k // group, q in 0 .. 2^bits - 1, X read as f32.

    group: weights of a column that share a scale; 0: all of K. zeros: ``""`` where every z is
    2^(bits-1), ``"u8"`` for integers, ``"f32"`` for any numbers. half: all scales are numbers of
    f16. Encoded as codes uint8 [K, N], scales f32 [G, N], zeros f32 [G, N].
    """

    bits: int
    group: int
    zeros: str = ""
    half: bool = True

    def __post_init__(self) -> None:
        if self.bits not in BITS or self.group < 0 or self.zeros not in ("", "u8", "f32"):
            raise ValueError(f"there are no such blocks: {self}")

    @property
    def name(self) -> str:
        """As in `w4a32-g32-sym`, scales of f32 and zero points of f32 marked."""
        group = f"-g{self.group}" if self.group else ""
        zeros = {"": "-sym", "u8": "", "f32": "-z32"}[self.zeros]
        return f"w{self.bits}{self.activation.name}{group}{'' if self.half else '-s32'}{zeros}"

    @property
    def activation(self) -> Activation:
        return Exact()

    def groups(self, k: int) -> int:
        """Number of groups of a column of k weights."""
        return -(-k // self.group) if self.group else 1

    def bytes(self, k: int, n: int) -> int:
        zero = {"": 0, "u8": 1, "f32": 4}[self.zeros]
        scale = 2 if self.half else 4
        return -(-k * n * self.bits // 8) + self.groups(k) * n * (scale + zero)

    def encode(self, weights: np.ndarray, inputs: object = None) -> Encoded:
        """Nearest codes; what calibration saw makes no difference."""
        w = checked(weights)
        size = self.group or max(len(w), 1)
        parts = [w[i : i + size] for i in range(0, len(w), size)]
        grids = [fit(p, self.bits, not self.zeros, self.half) for p in parts]
        codes = [g.codes(p) for g, p in zip(grids, parts, strict=True)]
        arrays = {
            "codes": np.concatenate(codes).astype(np.uint8),
            "scales": np.stack([g.scales for g in grids]),
            "zeros": np.stack([g.zeros for g in grids]).astype(np.float32),
        }
        return Encoded((w.shape[0], w.shape[1]), arrays)

    def decode(self, encoded: Encoded) -> np.ndarray:
        """s (q - z) in f32: one rounding where z is an integer."""
        size = self.group or max(encoded.shape[0], 1)
        scales, zeros = (
            np.repeat(encoded[name], size, axis=0)[: encoded.shape[0]]
            for name in ("scales", "zeros")
        )
        found: np.ndarray = (encoded["codes"].astype(np.float32) - zeros) * scales
        return found

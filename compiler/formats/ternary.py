"""Ternary weights: a scale for each column, added, subtracted or left out."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from tilewright.compiler.formats.activations import Activation, Int8
from tilewright.compiler.formats.format import Encoded, WeightFormat, checked
from tilewright.compiler.formats.gptq import Round, gptq
from tilewright.compiler.formats.inputs import Inputs

ROUNDS = 10
"""Turns of codes and scales."""

STARTS = (1.0, 0.7, 0.4)
"""Parts of a column's greatest magnitude that its scale starts from; the whole one finds weights
that are ternary as they are."""

SAMPLE = 64
"""Rows of a matrix that are looked at first: most weights show there that they are not ternary."""


@dataclass(frozen=True)
class Ternary(WeightFormat):
    """w[k, n] = s[n] (q[k, n] - 1), q in 0 .. 2; X is read as 8-bit codes by row.

    Encoded as codes uint8 [K, N] and scales f32 [N].

    Ma et al., BitNet b1.58, arXiv 2402.17764, for models that were trained so; others are rounded.
    """

    reads: Activation = field(default_factory=Int8)

    @property
    def name(self) -> str:
        return "t158"

    @property
    def activation(self) -> Activation:
        return self.reads

    def bytes(self, k: int, n: int) -> int:
        return -(-k // 9) * 2 * n + 4 * n

    def encode(self, weights: np.ndarray, inputs: Inputs | None = None) -> Encoded:
        """Codes and scales in turn, weighted by the energy of the inputs; where calibration saw
        some, GPTQ's codes too, and scales that fit these through the Gram matrix."""
        w = checked(weights)
        energy = np.ones(len(w)) if inputs is None else inputs.importance + 1e-12
        scales = fit(w, energy)
        plain = _encoded(_codes(w, scales), scales)
        if inputs is None or np.array_equal(self.decode(plain), w):
            return plain
        found = [plain]
        for _ in range(2):
            codes = gptq(w, inputs, _rounding(scales))
            found.append(_encoded(codes, scales))
            scales = _through(w, codes, inputs.gram)
            found.append(_encoded(codes, scales))
        return min(found, key=lambda e: self.error(w, e, inputs))

    def decode(self, encoded: Encoded) -> np.ndarray:
        signs = encoded["codes"].astype(np.float32) - np.float32(1)
        found: np.ndarray = signs * encoded["scales"]
        return found


def is_ternary(weights: np.ndarray) -> bool:
    """Whether every column of [K, N] has zeros and one magnitude alone."""
    if not weights.size:
        return False
    return _one_magnitude(weights[:SAMPLE]) and _one_magnitude(weights)


def _one_magnitude(w: np.ndarray) -> bool:
    size = np.abs(w)
    most = size.max(axis=0)
    return bool(np.isfinite(most).all() and ((size == most) | (size == 0)).all())


def fit(w: np.ndarray, energy: np.ndarray) -> np.ndarray:
    """Scales f32 [N] of W [K, N] with a small squared error, rows weighted by ``energy`` [K]."""
    weight = (energy / energy.sum()).astype(np.float32)
    most = np.abs(w).max(axis=0, initial=0)
    best, least = most, np.full(w.shape[1], np.inf)
    for start in STARTS:
        scales = most * np.float32(start)
        for turn in range(ROUNDS):
            signs = _codes(w, scales).astype(np.float32) - np.float32(1)
            if turn:
                error = weight @ np.square(w - signs * scales)
                best = np.where(error < least, scales, best)
                least = np.minimum(error, least)
            used = weight @ np.abs(signs)
            mean = np.divide(weight @ (w * signs), used, out=np.zeros_like(used), where=used > 0)
            # A column that has one magnitude keeps it, whatever its mean is rounded to.
            alike = ((np.abs(w) == scales) | (signs == 0)).all(axis=0)
            scales = np.where(alike, scales, mean)
    found: np.ndarray = best.astype(np.float32)
    return found


def _codes(w: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """Nearest codes; 1 in columns without a scale."""
    half = scales / 2
    found: np.ndarray = ((w > half).astype(np.uint8) + 1) - (w < -half)
    return found.astype(np.uint8)


def _rounding(scales: np.ndarray) -> Round:
    def rounding(_channel: int, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        codes = _codes(values, scales)
        return codes, (codes.astype(np.float32) - np.float32(1)) * scales

    return rounding


def _through(w: np.ndarray, codes: np.ndarray, gram: np.ndarray) -> np.ndarray:
    """Scales that minimize ||X (W - W')||_F for given codes."""
    signs = codes.astype(np.float32) - np.float32(1)
    pulled = gram.astype(np.float32) @ signs
    square = np.einsum("kn,kn->n", pulled, signs)
    found = np.divide(
        np.einsum("kn,kn->n", pulled, w), square, out=np.zeros_like(square), where=square > 0
    )
    stored: np.ndarray = np.maximum(found, 0).astype(np.float32)
    return stored


def _encoded(codes: np.ndarray, scales: np.ndarray) -> Encoded:
    arrays: dict[str, np.ndarray] = {
        "codes": codes.astype(np.uint8),
        "scales": scales.astype(np.float32),
    }
    return Encoded((codes.shape[0], codes.shape[1]), arrays)


FORMATS = (Ternary(),)

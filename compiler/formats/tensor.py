"""8-bit integers beside activations that have one step and one zero point for the whole tensor."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tilewright.compiler.formats.activations import Activation
from tilewright.compiler.formats.format import Encoded, WeightFormat, checked
from tilewright.compiler.formats.inputs import Inputs
from tilewright.compiler.formats.integers import Integers

SHARES = tuple(1 - i / 20 for i in range(13))
"""Parts of the range that calibration saw which are tried: a smaller one cuts off rare values."""

USUAL = 8.0
"""Magnitude that the range reaches without calibration."""

ALIKE = 0.5
"""Part of one side of a range from which on the other counts as equally long."""

LEAST = 2.0**-100
"""Least length of a range: the inverse of its step is finite."""


@dataclass(frozen=True)
class Codes(Activation):
    """Codes in [-128, 127], x = step (q - zero), cut off at the ends, ties to even. ``step``,
    ``zero``: of the tensor; x = 0, which pads of convolutions are, has the code `zero`."""

    step: np.float32
    zero: int

    @property
    def name(self) -> str:
        return "a8"

    def codes(self, x: np.ndarray) -> np.ndarray:
        """int8, as kernels compute them in f32: product, sum, limits, nearest."""
        with np.errstate(over="ignore"):
            places = x.astype(np.float32) * inverse(self.step) + np.float32(self.zero)
        found: np.ndarray = np.rint(places.clip(-128, 127)).astype(np.int8)
        return found

    def read(self, x: np.ndarray) -> np.ndarray:
        found: np.ndarray = (self.codes(x) - np.float64(self.zero)) * np.float64(self.step)
        return found


@dataclass(frozen=True)
class Tensor(WeightFormat):
    """Symmetric 8-bit integers with a scale a column; X is read by a step and a zero point that
    calibration fixed, so that each of its elements has one code, wherever a product meets it: what
    convolutions need, which read every pixel several times.

    Encoded as `Integers` and step f32 [1], zero int32 [1].
    """

    @property
    def name(self) -> str:
        return "w8a8-tensor"

    @property
    def activation(self) -> Activation:
        return Codes(np.float32(1), 0)

    @property
    def calibrated(self) -> bool:
        return True

    @property
    def plain(self) -> Integers:
        """The format of the weights."""
        return Integers(8, symmetric=True)

    def bytes(self, k: int, n: int) -> int:
        return self.plain.bytes(k, n) + 8

    def encode(self, weights: np.ndarray, inputs: Inputs | None = None) -> Encoded:
        read = ranged(-USUAL, USUAL) if inputs is None else fitted(inputs)
        return _with(self.plain.encode(checked(weights), inputs), read)

    def nearest(self, weights: np.ndarray, inputs: Inputs) -> Encoded:
        return _with(self.plain.encode(checked(weights)), fitted(inputs))

    def reading(self, encoded: Encoded) -> Codes:
        """How X is read."""
        return Codes(np.float32(encoded["step"][0]), int(encoded["zero"][0]))

    def read(self, x: np.ndarray, encoded: Encoded) -> np.ndarray:
        return self.reading(encoded).read(x)

    def decode(self, encoded: Encoded) -> np.ndarray:
        return self.plain.decode(encoded)


def _with(found: Encoded, read: Codes) -> Encoded:
    arrays = {"step": np.array([read.step]), "zero": np.array([read.zero], np.int32)}
    return Encoded(found.shape, {**found.arrays, **arrays})


def inverse(step: np.float32) -> np.float32:
    """By what elements are multiplied to get codes."""
    return np.float32(1) / step


def ranged(low: float, high: float) -> Codes:
    """Codes for values from low to high, with 0 among them."""
    low, high = min(low, 0.0), max(high, 0.0, LEAST + min(low, 0.0))
    step = np.float32((high - low) / 255)
    return Codes(step, int(np.clip(np.rint(-128 - low / float(step)), -128, 127)))


def fitted(inputs: Inputs) -> Codes:
    """Codes of that part of the range of X that has the least squared error.

    The range is that of the sample, stretched to the greatest magnitude of all rows; to both sides
    if the sample does not show that they differ. What a part cuts off is seldom in the sample, so
    the greatest value of each channel counts beside it.
    """
    sample = inputs.sample
    low, high = float(sample.min(initial=0)), float(sample.max(initial=0))
    most = max(-low, high)
    if min(-low, high) > ALIKE * most:
        low, high = -most, most
    stretch = max(float(inputs.absmax.max(initial=0)) / most, 1.0) if most else 1.0
    rows = inputs.fitted / max(len(sample), 1)

    def error(share: float) -> float:
        read = ranged(low * stretch * share, high * stretch * share).read(sample)
        beyond = np.maximum(inputs.absmax.astype(np.float64) - most * stretch * share, 0)
        return rows * float(np.sum((read - sample) ** 2)) + float(np.sum(beyond**2))

    share = min(SHARES, key=error)
    return ranged(low * stretch * share, high * stretch * share)


FORMATS = (Tensor(),)

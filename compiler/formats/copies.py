"""8-bit integers, channels with large inputs several times: each copy takes a part of them."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from tilewright.compiler.formats.activations import LEAST, Activation, Int8
from tilewright.compiler.formats.format import Encoded, WeightFormat
from tilewright.compiler.formats.inputs import Inputs
from tilewright.compiler.formats.integers import Integers


@dataclass(frozen=True)
class Copies(WeightFormat):
    """``count`` further channels, copies of those whose inputs make the scales of rows large.

    A channel that occurs c times may be c times as large as the others before the scale of its row
    grows: the scale is max |x / c| / 127, and a code beyond 127 is the sum of those of the copies.
    So outliers cost further integer products and no other kind of them. Calibration says which
    channels. Encoded as `Integers`, and channels int32 [count] in rising order.

    As FlattenQuant repeats channels (arXiv 2402.17985), with copies chosen one after another.
    """

    count: int
    reads: Activation = field(default_factory=Int8)

    @property
    def by_columns(self) -> bool:
        return True

    @property
    def name(self) -> str:
        return f"w8{self.reads.name}-d{self.count}"

    @property
    def activation(self) -> Activation:
        return self.reads

    @property
    def plain(self) -> Integers:
        """The format of the weights."""
        return Integers(8, symmetric=True, reads=self.reads)

    def supports(self, k: int, n: int) -> bool:
        return n > 0 and k >= self.count

    def bytes(self, k: int, n: int) -> int:
        return self.plain.bytes(k + self.count, n) + 4 * self.count

    def encode(self, weights: np.ndarray, inputs: Inputs | None = None) -> Encoded:
        """Codes as `Integers`; without inputs the channels with the greatest weights get one copy
        each."""
        found = self.plain.encode(weights, inputs)
        if inputs is None:
            size = np.abs(weights).max(axis=1, initial=0)
            chosen = np.sort(np.argsort(-size, kind="stable")[: self.count])
        else:
            chosen = copied(inputs, self.count)
        return Encoded(found.shape, {**found.arrays, "channels": chosen.astype(np.int32)})

    def decode(self, encoded: Encoded) -> np.ndarray:
        return self.plain.decode(encoded)

    def read(self, x: np.ndarray, encoded: Encoded) -> np.ndarray:
        wide = x.astype(np.float32)
        share = wide * shares(encoded["channels"], encoded.shape[0])
        most = np.abs(share).max(axis=1, keepdims=True, initial=0)
        most = np.where(most >= LEAST, most, np.float32(0))
        with np.errstate(divide="ignore"):
            inverse = np.where(most > 0, np.float32(127) / most, np.float32(0))
        codes = np.rint(wide * inverse)
        found: np.ndarray = codes * (most / np.float32(127)).astype(np.float64)
        return found


def shares(channels: np.ndarray, k: int) -> np.ndarray:
    """1 / c of every channel, f32 [K]; channels: of its copies."""
    count = 1 + np.bincount(channels, minlength=k)
    found: np.ndarray = np.float32(1) / count.astype(np.float32)
    return found


def copied(inputs: Inputs, count: int) -> np.ndarray:
    """``count`` channels in rising order, with repetitions. One after another: the one whose copy
    makes the mean of the rows' squared scales fall most; the largest ones that calibration saw
    where the sample has no more to say."""
    x = np.abs(inputs.sample)
    left = x.copy()
    times = np.ones(x.shape[1], np.int64)
    for _ in range(count):
        gain = np.zeros(x.shape[1])
        if len(x):
            greatest = left.argmax(axis=1)
            two = np.partition(left, left.shape[1] - 2, axis=1)[:, -2:].astype(np.float64)
            after = two[:, 1] * (times / (times + 1))[greatest]
            np.add.at(gain, greatest, two[:, 1] ** 2 - np.maximum(two[:, 0], after) ** 2)
        best = int(gain.argmax())
        if gain[best] <= 0:
            best = int((inputs.absmax / times).argmax())
        times[best] += 1
        left[:, best] = x[:, best] / times[best]
    return np.repeat(np.arange(len(times)), times - 1)


FORMATS = (Copies(64),)

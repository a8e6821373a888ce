"""How a kernel reads the input of a contraction: as it is, or rounded on the way in."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np

LEAST = np.float32(2.0**-120)
"""Least greatest magnitude of a block that is not rounded to zeros: its inverse is finite."""


class Activation(ABC):
    """A rounding of X [T, K] that kernels do while they load it."""

    exact = False
    """Whether X is read without any rounding."""

    @property
    @abstractmethod
    def name(self) -> str:
        """A part of format names, e.g. ``a8``; empty for the bf16 that is usual."""

    @abstractmethod
    def read(self, x: np.ndarray) -> np.ndarray:
        """X as kernels see it, float64 [T, K]."""


@dataclass(frozen=True)
class Exact(Activation):
    """f32 as it is."""

    exact = True

    @property
    def name(self) -> str:
        return "a32"

    def read(self, x: np.ndarray) -> np.ndarray:
        return x.astype(np.float64)


@dataclass(frozen=True)
class Rounded(Activation):
    """Rounded to bf16, ties to even."""

    @property
    def name(self) -> str:
        return ""

    def read(self, x: np.ndarray) -> np.ndarray:
        import ml_dtypes

        return x.astype(np.float32).astype(ml_dtypes.bfloat16).astype(np.float64)


@dataclass(frozen=True)
class Int8(Activation):
    """8-bit codes in [-127, 127], scale = absmax / 127 of each row, or of each block of a row.

    block: channels that share a scale; 0: the whole row. Ties go to even. A row of zeros has scale
    0 and codes 0.
    """

    block: int = 0

    @property
    def name(self) -> str:
        return f"a8b{self.block}" if self.block else "a8"

    def read(self, x: np.ndarray) -> np.ndarray:
        codes, scales = self.quantize(x)
        size = self.block or max(x.shape[1], 1)
        return codes * np.repeat(scales, size, axis=1)[:, : x.shape[1]].astype(np.float64)

    def quantize(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Codes int8 [T, K] and scales f32 [T, ceil(K / block)] of X f32 [T, K].

        As kernels compute them in f32: the inverse scale 127 / absmax is rounded once; what is
        nowhere as great as LEAST counts as zeros.
        """
        rows, k = x.shape
        size = self.block or max(k, 1)
        blocks = -(-k // size)
        padded = np.zeros((rows, blocks * size), np.float32)
        padded[:, :k] = x
        parts = padded.reshape(rows, blocks, size)
        absmax = np.abs(parts).max(axis=2, initial=0.0)
        absmax = np.where(absmax >= LEAST, absmax, np.float32(0))
        with np.errstate(divide="ignore"):
            inverse = np.where(absmax > 0, np.float32(127) / absmax, np.float32(0))
        codes = np.rint(parts * inverse[..., None]).clip(-127, 127).astype(np.int8)
        scales = (absmax / np.float32(127)).astype(np.float32)
        return codes.reshape(rows, blocks * size)[:, :k], scales


@dataclass(frozen=True)
class Ranged(Activation):
    """8-bit codes in [-127, 127] between the least and the greatest value of each row:
    x = middle + scale q, ties to even. A row whose values are all the same has scale 0.

    Of use where values lie on one side of zero, as behind GELU: the steps are half as long.
    """

    @property
    def name(self) -> str:
        return "a8z"

    def read(self, x: np.ndarray) -> np.ndarray:
        codes, scales, middles = self.quantize(x)
        found: np.ndarray = codes * scales.astype(np.float64) + middles
        return found

    def quantize(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Codes int8 [T, K], scales and middles f32 [T, 1] of X f32 [T, K], as kernels compute
        them in f32: half of the range is hi / 2 - lo / 2, and as `Int8` below LEAST."""
        wide = x.astype(np.float32)
        one = np.float32(0.5)
        high = wide.max(axis=1, keepdims=True, initial=-np.inf) * one
        low = wide.min(axis=1, keepdims=True, initial=np.inf) * one
        if not x.shape[1]:
            high = low = np.zeros((len(x), 1), np.float32)
        middle, half = high + low, high - low
        half = np.where(half >= LEAST, half, np.float32(0))
        with np.errstate(divide="ignore"):
            inverse = np.where(half > 0, np.float32(127) / half, np.float32(0))
        codes = np.rint((wide - middle) * inverse).clip(-127, 127).astype(np.int8)
        return codes, (half / np.float32(127)).astype(np.float32), middle


@dataclass(frozen=True)
class Static(Activation):
    """Codes are the values themselves, rounded to even and cut off at -128 and 127: whoever made X
    has multiplied each channel by the inverse of its step, which no row changes."""

    @property
    def name(self) -> str:
        return "a8"

    def read(self, x: np.ndarray) -> np.ndarray:
        found: np.ndarray = np.rint(x.astype(np.float32)).clip(-128, 127).astype(np.float64)
        return found

"""Formats of key-value caches: one scale and one code an element for every row of a head.

    int8   code in -127 .. 127, value = code * scale
    int4   code in 0 .. 15, value = (code - 7.5) * scale, after a Hadamard rotation of the row

A row is quantized when it is made, once, and never again: what was written stays as it is. The
rotation (QuaRot, Ashkboos 2024, arXiv 2404.00456) spreads a few large elements over all of a row,
so that one scale suits all; it cancels in scores, where queries are rotated too, and is undone
after the weighted sum of values. Codes of int4 take all 16 levels, half a step off zero.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tilewright.runtime.manifest import CACHES_KEY as RECORD

__all__ = ["CACHES", "RECORD", "CacheFormat", "rotate"]

LEAST_BLOCK = 8
"""Elements that a rotation must mix at least; less would not spread anything."""

SMALLEST = np.float32(2.0**-100)
"""Rows with no element this large become zeros: the inverse of their scale would overflow."""


@dataclass(frozen=True)
class CacheFormat:
    """How rows of `size` elements are stored. levels: codes from the smallest to zero."""

    name: str
    bits: int
    levels: float
    dtype: str
    rotated: bool

    def width(self, size: int) -> int:
        """Elements of `dtype` that the codes of a row take."""
        return size * self.bits // 8

    def block(self, size: int) -> int:
        """Elements that are rotated together: the largest power of two that divides `size`; 1 if
        rows are not rotated."""
        return size & -size if self.rotated else 1

    def supports(self, size: int) -> bool:
        """Whether rows of `size` elements can be stored."""
        return size > 0 and (not self.rotated or self.block(size) >= LEAST_BLOCK)

    def encode(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Codes [.., width] and scales f32 [..] of rows f32 [.., size], in f32 arithmetic step by
        step as kernels do it.

        A row with NaN or infinity gets the scale NaN.
        """
        x = rotate(np.asarray(x, np.float32), self.block(x.shape[-1]))
        most = np.max(np.abs(x), axis=-1, initial=0)
        usable = np.isfinite(most) & (most >= SMALLEST)
        some = np.where(usable, most, np.float32(1))
        inverse = np.float32(self.levels) / some
        with np.errstate(invalid="ignore"):
            scales = np.where(usable, some / np.float32(self.levels), most * np.float32(0))
            steps = np.where(usable[..., None], x * inverse[..., None], np.float32(0))
        if self.bits == 8:
            return np.rint(steps).astype(np.int8), scales.astype(np.float32)
        codes = np.rint(steps + np.float32(7.5)).astype(np.uint8)
        half = codes.shape[-1] // 2
        return codes[..., :half] | codes[..., half:] << 4, scales.astype(np.float32)

    def levels_of(self, codes: np.ndarray) -> np.ndarray:
        """What codes [.., width] stand for in units of their scales: f64 [.., size], rotated."""
        if self.bits == 8:
            return codes.astype(np.float64)
        both = np.concatenate([codes & 15, codes >> 4], axis=-1)
        return both.astype(np.float64) - 7.5

    def decode(self, codes: np.ndarray, scales: np.ndarray) -> np.ndarray:
        """The rows, f64 [.., size]."""
        with np.errstate(invalid="ignore"):
            rows = self.levels_of(codes) * scales.astype(np.float64)[..., None]
        return rotate(rows, self.block(rows.shape[-1]))

    def rounded(self, x: np.ndarray) -> np.ndarray:
        """Rows after they were stored and read again, in their own dtype."""
        return self.decode(*self.encode(x)).astype(x.dtype)


INT8 = CacheFormat("int8", 8, 127.0, "i8", rotated=False)
INT4 = CacheFormat("int4", 4, 7.5, "u8", rotated=True)
CACHES = {made.name: made for made in (INT4, INT8)}
"""Every format by name, fewest bytes first."""


def rotate(x: np.ndarray, block: int) -> np.ndarray:
    """Blocks of the last axis times the symmetric orthogonal Hadamard matrix of Sylvester's order,
    by the fast transform: sums and differences of elements 1, 2, 4, ... apart, then one product."""
    if block == 1:
        return x
    out = x.reshape(-1, block)
    apart = 1
    with np.errstate(invalid="ignore", over="ignore"):
        while apart < block:
            pairs = out.reshape(-1, block // (2 * apart), 2, apart)
            low, high = pairs[:, :, 0], pairs[:, :, 1]
            out = np.stack([low + high, low - high], axis=2).reshape(-1, block)
            apart *= 2
        turned: np.ndarray = out * x.dtype.type(block**-0.5)
    return turned.reshape(x.shape)

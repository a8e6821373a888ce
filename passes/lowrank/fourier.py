"""Tables of the discrete Fourier and cosine transforms, up to windows, scaling and permutation."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from scipy.fft import dct, idct

from tilewright.passes.structure.found import TOLERANCE, Detector, Found, residual
from tilewright.passes.structure.matrix import Matrix


@dataclass(frozen=True, eq=False)
class Fourier(Found):
    """Columns (axis 1) or rows (axis 0) of W are window * (a cos + b sin)(2 pi f t / length).

    frequencies: f of every line, whole numbers. parts: f64 [lines, 2], a and b. window: f64
    [length], 1 where there is none.
    """

    kind: ClassVar[str] = "DFT"
    axis: int
    frequencies: np.ndarray
    parts: np.ndarray
    window: np.ndarray

    @property
    def length(self) -> int:
        """Of the transform."""
        return len(self.window)

    @property
    def windowed(self) -> bool:
        """Whether its window is not constant."""
        return bool(np.ptp(self.window) > 64 * TOLERANCE * np.abs(self.window).max())

    @property
    def values(self) -> int:
        return int(self.parts.size) + (self.length if self.windowed else 1)

    @property
    def index_bytes(self) -> int:
        return 4 * len(self.frequencies)

    @property
    def work(self) -> int:
        """Of a real transform: 5/4 n log2 n multiplications and additions."""
        return int(1.25 * self.length * np.log2(self.length)) + self.values

    @property
    def text(self) -> str:
        window = ", windowed" if self.windowed else ""
        return f"of {self.length}, {len(self.frequencies)} lines{window}"

    def dense(self) -> np.ndarray:
        angle = 2 * np.pi / self.length * np.outer(np.arange(self.length), self.frequencies)
        made: np.ndarray = np.cos(angle) * self.parts[:, 0] + np.sin(angle) * self.parts[:, 1]
        made *= self.window[:, None]
        return made if self.axis == 1 else made.T


@dataclass(frozen=True, eq=False)
class Cosine(Found):
    """Columns (axis 1) or rows (axis 0) of W are factors * cos(pi f (t + 1/2) / length)."""

    kind: ClassVar[str] = "DCT"
    axis: int
    length: int
    frequencies: np.ndarray
    factors: np.ndarray

    @property
    def values(self) -> int:
        return len(self.factors)

    @property
    def index_bytes(self) -> int:
        return 4 * len(self.frequencies)

    @property
    def work(self) -> int:
        return int(1.25 * self.length * np.log2(self.length)) + self.values

    @property
    def text(self) -> str:
        return f"of {self.length}, {len(self.frequencies)} {'columns' if self.axis else 'rows'}"

    def dense(self) -> np.ndarray:
        t = np.arange(self.length) + 0.5
        made: np.ndarray = np.cos(np.pi / self.length * np.outer(t, self.frequencies))
        made *= self.factors
        return made if self.axis == 1 else made.T


def find_cosine(matrix: Matrix) -> Cosine | None:
    """Every line's cosine transform has a single coefficient."""
    for axis in (1, 0):
        lines = matrix.w if axis == 1 else matrix.w.T  # [length, lines]
        length, count = lines.shape
        if length < 8 or count < 4 or count > length:
            continue
        probe = dct(lines[:, :4].astype(np.float64), axis=0, norm="ortho")
        if not _single(probe):
            continue
        seen = dct(lines.astype(np.float64), axis=0, norm="ortho")
        f = np.abs(seen).argmax(axis=0)
        unit = np.zeros((length, count))
        unit[f, np.arange(count)] = 1.0
        table = idct(unit, axis=0, norm="ortho")
        t = (np.arange(length) + 0.5) / length
        at = np.cos(np.pi * f * t[0])
        factors = seen[f, np.arange(count)] * table[0] / at
        made = Cosine(matrix.k, matrix.n, 0.0, axis, length, f, factors)
        error = residual(matrix, made.dense())
        if error <= TOLERANCE:
            return replace(made, residual=error)
    return None


def _single(seen: np.ndarray) -> bool:
    """Whether each column of [length, lines] has one element that is not rounding."""
    squares = np.square(np.abs(seen))
    rest = squares.sum(axis=0) - squares.max(axis=0)
    return bool((rest <= 1e-10 * squares.sum(axis=0)).all())


def find_fourier(matrix: Matrix) -> Fourier | None:
    """A window is a line without a change of sign (f = 0); its product with another line peaks, in
    the transform, at the frequency of that line, whose parts follow by least squares."""
    for axis in (1, 0):
        lines = matrix.w if axis == 1 else matrix.w.T
        length, count = lines.shape
        if length < 16 or count < 8 or count > 2 * length + 2:
            continue
        window = _window(lines)
        found = None if window is None else _fitted(matrix, axis, lines, window)
        if found is not None:
            return found
    return None


def _window(lines: np.ndarray) -> np.ndarray | None:
    low, high = lines.min(axis=0), lines.max(axis=0)
    steady = np.flatnonzero(((low >= 0) & (high > 0)) | ((high <= 0) & (low < 0)))
    if not len(steady) or len(steady) > 4:
        return None
    line: np.ndarray = np.abs(lines[:, steady[0]].astype(np.float64))
    if 2 * np.count_nonzero(line) < len(line):
        return None
    line /= line.max()
    return line


def _fitted(matrix: Matrix, axis: int, lines: np.ndarray, window: np.ndarray) -> Fourier | None:
    count = lines.shape[1]
    few = min(8, count)
    for part in (lines[:, -few:], lines):  # the last lines tell most matrices apart
        f, parts, off = _parts(part.astype(np.float64), window)
        if off > 16 * TOLERANCE:
            return None
    made = Fourier(matrix.k, matrix.n, 0.0, axis, f, parts, window)
    error = residual(matrix, made.dense())
    return replace(made, residual=error) if error <= TOLERANCE else None


def _parts(lines: np.ndarray, window: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Frequencies and parts of lines [length, L], and what is left of them."""
    length, count = lines.shape
    seen = np.abs(np.fft.rfft(window[:, None] * lines, axis=0))
    peaks = seen.argmax(axis=0)
    # A window spreads both images of a frequency, which add up beside it: neighbours are tried too.
    tried = [_fit(lines, window, np.clip(peaks + shift, 0, length // 2)) for shift in range(-3, 4)]
    best = np.stack([off for _, _, off in tried]).argmin(axis=0)
    at = np.arange(count)
    f = np.stack([f for f, _, _ in tried])[best, at]
    parts = np.stack([parts for _, parts, _ in tried])[best, at]
    off = np.stack([off for _, _, off in tried])[best, at]
    total = float(np.linalg.norm(lines))
    return f, parts, float(np.linalg.norm(off)) / max(total, 1e-300)


def _fit(
    lines: np.ndarray, window: np.ndarray, f: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """f, the best parts at these frequencies, and what is left of each line."""
    length = len(window)
    angle = 2 * np.pi / length * np.outer(np.arange(length), f)
    cos, sin = window[:, None] * np.cos(angle), window[:, None] * np.sin(angle)
    cc, ss, cs = (np.einsum("tl,tl->l", a, b) for a, b in ((cos, cos), (sin, sin), (cos, sin)))
    xc, xs = np.einsum("tl,tl->l", cos, lines), np.einsum("tl,tl->l", sin, lines)
    det = cc * ss - cs * cs
    alone = det <= 1e-9 * cc * cc  # f = 0 or half of the length: the sine vanishes
    det[alone], cc = 1.0, np.maximum(cc, 1e-300)
    a = np.where(alone, xc / cc, (xc * ss - xs * cs) / det)
    b = np.where(alone, 0.0, (xs * cc - xc * cs) / det)
    return f, np.stack((a, b), axis=1), np.linalg.norm(lines - cos * a - sin * b, axis=0)


DETECTORS = (
    Detector("DCT", find_cosine, order=6, settles=True),
    Detector("DFT", find_fourier, order=7, settles=True),
)

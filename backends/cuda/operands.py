"""Weights of 4, 8 and 16 bits in the order of tensor-core operands: the picture is in
`device/fewparts.cuh`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

PANEL, CHUNK = 32, 32
"""Columns of a panel, k of a chunk."""


@dataclass(frozen=True)
class Weights:
    """B [k, n] as it is packed.

    ``bits``: of a code; 16: numbers, f16 if ``half`` else bf16. ``group``: k that share a scale of
    ``scaled`` bytes (0: there are none), a multiple of 32, 0: all. ``zeros``: whether groups have
    a zero point u8, else it is the middle of the codes. ``parts``: of which rows of A are made up
    in bf16, 3 where they are not to be rounded.
    """

    k: int
    n: int
    bits: int
    group: int = 0
    scaled: int = 0
    zeros: bool = False
    half: bool = False
    parts: int = 1

    @property
    def step(self) -> int:
        """k of one copy; those of a group are whole steps."""
        if self.bits == 16:
            return CHUNK
        most = 512 // self.bits
        return next(s for s in (128, 64, CHUNK) if s <= most and self.group % s == 0)

    @property
    def steps(self) -> int:
        return -(-self.k // self.step)

    @property
    def size(self) -> int:
        """k of a group."""
        return self.group or max(self.steps, 1) * self.step

    @property
    def groups(self) -> int:
        return -(-self.k // self.size) if self.scaled else 0

    @property
    def panels(self) -> int:
        return -(-self.n // PANEL)

    @property
    def codes(self) -> int:
        """Bytes of the codes of a step of a panel."""
        return self.step * PANEL * self.bits // 8

    @property
    def slot(self) -> int:
        """Bytes of a step of a panel: codes, scales, zero points."""
        return self.codes + PANEL * (self.scaled + self.zeros)

    @property
    def bytes(self) -> int:
        return self.panels * self.steps * self.slot


_PLACES = np.array([4 * (j // 2) + 16 * (j % 2) for j in range(8)], np.uint32)
"""Bits of a word at which the codes of eight k lie."""


def pack(
    weights: Weights,
    codes: np.ndarray,
    scales: np.ndarray | None = None,
    zeros: np.ndarray | None = None,
) -> np.ndarray:
    """[K, N] u8 codes, or u16 bits of numbers, [G, N] scales and zero points -> u8 [bytes].

    The picture is in `fewparts.cuh`. Scales and zero points lie beside every step of their group.
    """
    w = weights
    chunks = w.step // CHUNK
    filled = np.zeros((w.steps * w.step, w.panels * PANEL), codes.dtype)
    filled[: w.k, : w.n] = codes
    # k = 32 chunk + 8 t + j, n = 32 panel + 8 r + g
    parts = filled.reshape(w.steps, chunks, 4, 8, w.panels, 4, 8)
    if w.bits == 16:
        found = parts.transpose(4, 0, 1, 5, 6, 2, 3)
    else:
        halves = np.stack([parts >> shift & 15 for shift in range(0, w.bits, 4)]).astype("u4")
        words = np.bitwise_or.reduce(halves << _PLACES[:, None, None, None], axis=4)
        # [half, step, chunk, t, panel, r, g] -> [panel, step, chunk, half, g, t, r]
        found = words.transpose(4, 1, 2, 0, 6, 3, 5)
    slots = np.zeros((w.panels, w.steps, w.slot), np.uint8)
    body = np.ascontiguousarray(found).reshape(-1).view(np.uint8)
    slots[:, :, : w.codes] = body.reshape(w.panels, w.steps, w.codes)
    group = np.arange(w.steps) * w.step // w.size
    at = w.codes
    for values in (scales, zeros):
        if values is not None:
            sides = np.zeros((w.groups, w.panels * PANEL), values.dtype)
            sides[:, : w.n] = values
            lanes = sides.reshape(w.groups, w.panels, 4, 8).transpose(1, 0, 3, 2)[:, group]
            raw = np.ascontiguousarray(lanes).reshape(w.panels, w.steps, PANEL).view(np.uint8)
            slots[:, :, at : at + raw.shape[2]] = raw
            at += raw.shape[2]
    return slots.reshape(-1)


def unpack(
    weights: Weights, packed: np.ndarray
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
    """What was packed: codes or bits [K, N], scales (f16 or f32) and zero points (u8) [G, N]."""
    w = weights
    chunks = w.step // CHUNK
    slots = packed.reshape(w.panels, w.steps, w.slot)
    body = np.ascontiguousarray(slots[:, :, : w.codes])
    if w.bits == 16:
        parts = body.view(np.uint16).reshape(w.panels, w.steps, chunks, 4, 8, 4, 8)
        parts = parts.transpose(1, 2, 5, 6, 0, 3, 4)
    else:
        words = body.view(np.uint32).reshape(w.panels, w.steps, chunks, w.bits // 4, 8, 4, 4)
        words = words.transpose(3, 1, 2, 5, 0, 6, 4)
        halves = words[:, :, :, :, None] >> _PLACES[:, None, None, None] & 15
        parts = halves[0].astype(np.uint8)
        if w.bits == 8:
            parts |= (halves[1] << 4).astype(np.uint8)
    codes = parts.reshape(w.steps * w.step, w.panels * PANEL)[: w.k, : w.n]
    first = np.arange(w.groups) * (w.size // w.step)

    def sides(at: int, dtype: type) -> np.ndarray:
        size = PANEL * np.dtype(dtype).itemsize
        raw: np.ndarray = np.ascontiguousarray(slots[:, first, at : at + size]).view(dtype)
        lanes = raw.reshape(w.panels, w.groups, 8, 4).transpose(1, 0, 3, 2)
        return np.ascontiguousarray(lanes.reshape(w.groups, w.panels * PANEL)[:, : w.n])

    kind = np.float16 if w.scaled == 2 else np.float32
    return (
        np.ascontiguousarray(codes),
        sides(w.codes, kind) if w.scaled else None,
        sides(w.codes + PANEL * w.scaled, np.uint8) if w.zeros else None,
    )

"""Packed B; the picture is in cuda/device/bitmap.cuh."""

from __future__ import annotations

import ml_dtypes
import numpy as np

from tilewright.backends.kernels.bitmap_mma.spec import (
    BITMAPS,
    CHUNK,
    PANEL,
    PIECE,
    STEP,
    BitmapMmaSpec,
)
from tilewright.compiler.formats.format import Encoded
from tilewright.compiler.formats.sparse import Sparse

TYPES = {"bf16": np.dtype(ml_dtypes.bfloat16), "f16": np.dtype(np.float16)}


def pack(weights: np.ndarray | Encoded, spec: BitmapMmaSpec) -> np.ndarray:
    """f32 [K, N], or what the format has encoded -> uint8 [packed_bytes]. A zero with a sign loses
    it. ValueError if more values are there than ``pieces`` hold, or ``slot`` in a step."""
    filled = np.zeros((spec.steps * STEP, spec.panels * PANEL), np.uint16)
    filled[: spec.k, : spec.n] = _codes(weights, spec)
    # k = 32 chunk + 8 t + 4 h + b, n = 32 panel + 8 r + g; nibble j = 2 r + h of lane 4 g + t
    parts = filled.reshape(spec.steps, 2, 4, 2, 4, spec.panels, 4, 8)
    # [panel][step][chunk][r, h][g, t][b]
    lanes = np.ascontiguousarray(parts.transpose(5, 0, 1, 6, 3, 7, 2, 4))
    lanes = lanes.reshape(spec.panels * spec.steps, 2 * CHUNK * PANEL)
    there = lanes != 0
    # Words [lane / 8][j], bits [b][lane % 8].
    bits = there.reshape(-1, 2, 8, 4, 8, 4).transpose(0, 1, 3, 2, 5, 4).reshape(len(there), -1)
    words = np.packbits(bits, axis=1, bitorder="little")
    counts = there.sum(axis=1)
    pieces = -(-counts * 2 // PIECE)
    if pieces.sum() > spec.pieces:
        raise ValueError(f"{spec.pieces} pieces of values are too few for these weights")
    sizes = pieces * PIECE + BITMAPS
    if sizes.max() > spec.slot:
        raise ValueError(
            f"a step of {sizes.max()} bytes: {spec.slot} are too few for these weights"
        )
    ends = spec.head_bytes + np.cumsum(np.concatenate([[0], sizes]))
    packed = np.zeros(spec.packed_bytes, np.uint8)
    head = packed[: 4 * len(ends)].view(np.uint32)
    head[:] = ends // PIECE
    begins = ends[:-1]
    packed[begins[:, None] + np.arange(BITMAPS)] = words
    values, halves = lanes[there], packed.view(np.uint16)
    for begin, count, end in zip((begins + BITMAPS) // 2, counts, np.cumsum(counts), strict=True):
        halves[begin : begin + count] = values[end - count : end]
    return packed


def unpack(packed: np.ndarray, spec: BitmapMmaSpec) -> np.ndarray | Encoded:
    """The exact inverse."""
    bytes_ = packed.reshape(-1).view(np.uint8)
    count = spec.panels * spec.steps
    begins = bytes_[: 4 * count].view(np.uint32).astype(np.int64) * PIECE
    words = bytes_[begins[:, None] + np.arange(BITMAPS)]
    bits = np.unpackbits(words, axis=1, bitorder="little").astype(bool)
    there = bits.reshape(-1, 2, 4, 8, 4, 8).transpose(0, 1, 3, 2, 5, 4).reshape(bits.shape)
    counts = there.sum(axis=1)
    halves = bytes_.view(np.uint16)
    spans = zip((begins + BITMAPS) // 2, counts, strict=True)
    lanes = np.zeros(there.shape, np.uint16)
    lanes[there] = np.concatenate([halves[begin : begin + count] for begin, count in spans])
    parts = lanes.reshape(spec.panels, spec.steps, 2, 4, 2, 8, 4, 4)
    filled = parts.transpose(1, 2, 6, 4, 7, 0, 3, 5).reshape(spec.steps * STEP, -1)
    codes = np.ascontiguousarray(filled[: spec.k, : spec.n])
    if spec.format is not None:
        return Encoded((spec.k, spec.n), {"codes": codes})
    found: np.ndarray = codes.view(TYPES[spec.element]).astype(np.float32)
    return found


def sample(spec: BitmapMmaSpec) -> np.ndarray:
    """Packed weights of which nearly as many are there as ``pieces`` have room for, anywhere where
    steps have room for them."""
    rng = np.random.default_rng(0)
    size = spec.k * spec.n
    room = max(spec.pieces - spec.panels * spec.steps, 0) * PIECE // 2
    w = rng.choice([-1, 1], size) * rng.uniform(0.5, 2, size)
    w[rng.permutation(size)[min(room, size) :]] = 0
    matrix = w.astype(np.float32).reshape(spec.k, spec.n)
    each = (spec.slot - BITMAPS) // 2
    for k in range(0, spec.k, STEP):
        for n in range(0, spec.n, PANEL):
            step = matrix[k : k + STEP, n : n + PANEL]
            beyond = np.flatnonzero(step)[each:]
            step[np.unravel_index(beyond, step.shape)] = 0
    return pack(matrix if spec.format is None else Sparse(16).encode(matrix), spec)


def _codes(weights: np.ndarray | Encoded, spec: BitmapMmaSpec) -> np.ndarray:
    """u16 bits [K, N], 0 where nothing is."""
    if isinstance(weights, Encoded):
        codes: np.ndarray = weights["codes"]
        return codes
    with np.errstate(over="ignore"):
        short = np.ascontiguousarray(weights, np.float32).astype(TYPES[spec.element])
    return np.where(short == 0, 0, short.view(np.uint16)).astype(np.uint16)

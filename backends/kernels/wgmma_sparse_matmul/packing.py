"""Packed B; the picture is in the package docstring."""

from __future__ import annotations

import ml_dtypes
import numpy as np

from tilewright.backends.kernels.wgmma_sparse_matmul.spec import (
    ATOM,
    DEPTH,
    WgmmaSparseMatmulSpec,
)
from tilewright.compiler.formats.format import Encoded
from tilewright.compiler.formats.sparse import compressed, expanded

TYPES = {
    "f32": np.dtype(np.float32),
    "bf16": np.dtype(ml_dtypes.bfloat16),
    "f16": np.dtype(np.float16),
}
"""Formats as numpy types."""

NOTHING = 2 | 3 << 2
"""Places of a group without values."""


def pack(weights: np.ndarray | Encoded, spec: WgmmaSparseMatmulSpec) -> np.ndarray:
    """f32 [K, N], or what the format has encoded -> uint8 [packed_bytes]. A zero with a sign loses
    it. ValueError if more than two of four k in a row are not 0."""
    values, places = compressed(_codes(weights, spec))
    packed = np.zeros(spec.packed_bytes, np.uint8)
    columns = packed[: 2 * spec.n * spec.column].view(np.uint16).reshape(spec.n, spec.column)
    columns[:, : spec.values] = values.T
    packed[spec.places_at :] = _words(places, spec).view(np.uint8)
    return packed


def unpack(packed: np.ndarray, spec: WgmmaSparseMatmulSpec) -> np.ndarray | Encoded:
    """The exact inverse: the [K, N] matrix in float64, or what the format has encoded."""
    values, places = parts(packed, spec)
    codes = expanded(values, places, spec.k)
    if spec.coded:
        return Encoded((spec.k, spec.n), {"codes": codes})
    return widen(codes, spec)


def parts(packed: np.ndarray, spec: WgmmaSparseMatmulSpec) -> tuple[np.ndarray, np.ndarray]:
    """Values u16 [2 ceil(K / 4), N] and places u8 [ceil(K / 4), N] of packed B."""
    bytes_ = packed.reshape(-1).view(np.uint8)
    columns = bytes_[: 2 * spec.n * spec.column].view(np.uint16).reshape(spec.n, spec.column)
    words = bytes_[spec.places_at :].view(np.uint32)[: spec.steps * spec.atoms * 128]
    halves = words.reshape(spec.steps, spec.atoms, 4, 8, 4)
    shifts = 4 * np.arange(8, dtype=np.uint32)
    # [step][atom][warp][row of 8][quarter][upper half, group] -> [step, quarter, group][column]
    found = (halves[..., None] >> shifts & 15).reshape(*halves.shape, 2, 4)
    found = found.transpose(0, 4, 6, 1, 2, 5, 3).reshape(spec.steps * 16, spec.atoms * ATOM)
    groups = spec.values // 2
    return (
        np.ascontiguousarray(columns[:, : spec.values].T),
        np.ascontiguousarray(found[:groups, : spec.n].astype(np.uint8)),
    )


def widen(bits: np.ndarray, spec: WgmmaSparseMatmulSpec) -> np.ndarray:
    """Bits of the elements as float64."""
    return np.asarray(bits.view(TYPES[spec.element]).astype(np.float64))


def _words(places: np.ndarray, spec: WgmmaSparseMatmulSpec) -> np.ndarray:
    """Places [ceil(K / 4), N] -> u32 words in the order of threads."""
    filled = np.full((spec.steps * DEPTH // 4, spec.atoms * ATOM), NOTHING, np.uint32)
    filled[: len(places), : spec.n] = places
    # [step][quarter][group][atom][warp][upper half][row of 8]
    groups = filled.reshape(spec.steps, 4, 4, spec.atoms, 4, 2, 8)
    words = np.zeros((spec.steps, 4, spec.atoms, 4, 8), np.uint32)
    for half in range(2):
        for group in range(4):
            words |= groups[:, :, group, :, :, half] << np.uint32(16 * half + 4 * group)
    made = words.transpose(0, 2, 3, 4, 1).reshape(-1)
    beyond = np.full(2 * 128, NOTHING * 0x11111111, np.uint32)
    return np.concatenate([made, beyond])


def _codes(weights: np.ndarray | Encoded, spec: WgmmaSparseMatmulSpec) -> np.ndarray:
    """u16 bits [K, N], 0 where nothing is."""
    if isinstance(weights, Encoded):
        codes: np.ndarray = weights["codes"]
        return codes
    short = np.ascontiguousarray(weights, np.float32).astype(TYPES[spec.element])
    return np.where(short == 0, 0, short.view(np.uint16)).astype(np.uint16)

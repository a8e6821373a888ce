"""Packed B; the picture is in the package docstring."""

from __future__ import annotations

import numpy as np

from tilewright.backends.kernels.bitmap_matmul.spec import BitmapMatmulSpec
from tilewright.backends.llvm.bitmap_lines import CELL, LANES, LINE, PER_GROUP, mask_bytes
from tilewright.backends.llvm.microkernel import PANEL
from tilewright.compiler.formats.format import Encoded
from tilewright.compiler.formats.sparse import Sparse

_TYPE = {1: np.uint32, 2: np.uint16, 4: np.int8}


def pack(weights: np.ndarray | Encoded, spec: BitmapMatmulSpec) -> np.ndarray:
    """f32 [K, N], or what the format has encoded -> uint8 [packed_bytes]. A zero with a sign loses
    it. ValueError if more values are there than ``lines`` hold."""
    codes = _codes(weights, spec)
    panels, q = spec.panels, spec.q
    groups = spec.cells * CELL
    filled = np.zeros((groups * q, panels * PANEL), codes.dtype)
    filled[: spec.k, : spec.n] = codes
    # [panel][cell][group of it, half, column, k of the group]
    lines = filled.reshape(groups, q, panels, PER_GROUP, LANES).transpose(2, 0, 3, 4, 1)
    lines = np.ascontiguousarray(lines).reshape(panels, spec.cells, -1)
    there = lines != 0
    packed = np.zeros(spec.packed_bytes, np.uint8)
    starts = packed[: 8 * panels].view(np.int64)
    at = spec.head_bytes
    for p in range(panels):
        starts[p] = at
        if q == 4:
            assert isinstance(weights, Encoded)
            columns = slice(p * PANEL, (p + 1) * PANEL)
            sums = filled[:, columns].sum(axis=0, dtype=np.int32)
            scales = np.zeros(PANEL, np.float32)
            own = weights["scales"][0, columns]
            scales[: len(own)] = own
            packed[at : at + 4 * PANEL] = sums.view(np.uint8)
            packed[at + 4 * PANEL : at + 8 * PANEL] = scales.view(np.uint8)
        at += spec.column_bytes
        stream = _stream(lines[p], there[p])
        end = at + -(-len(stream) // LINE) * LINE
        if end > len(packed) - LINE:
            raise ValueError(f"{spec.lines} lines of values are too few for these weights")
        packed[at : at + len(stream)] = stream
        at = end
    return packed


def sample(spec: BitmapMatmulSpec) -> np.ndarray:
    """Packed weights of which as many are there as ``lines`` have room for, anywhere."""
    rng = np.random.default_rng(0)
    size = spec.k * spec.n
    room = max(spec.lines - spec.panels, 0) * LINE * spec.q // 4
    w = np.zeros(size, np.float32)
    there = rng.permutation(size)[: min(room, size) * 31 // 32]
    w[there] = rng.choice([-1, 1], len(there)) * rng.uniform(0.5, 2, len(there))
    matrix = w.reshape(spec.k, spec.n)
    if spec.format is None:
        return pack(matrix, spec)
    return pack(Sparse(spec.format.bits).encode(matrix), spec)


def unpack(packed: np.ndarray, spec: BitmapMatmulSpec) -> np.ndarray | Encoded:
    """The exact inverse."""
    bytes_ = packed.reshape(-1).view(np.uint8)
    panels, q = spec.panels, spec.q
    groups = spec.cells * CELL
    lines = np.zeros((panels, spec.cells, CELL * PER_GROUP * LANES * q), _TYPE[q])
    scales = np.zeros((panels, PANEL), np.float32)
    size = CELL * PER_GROUP * mask_bytes(q)
    for p, at in enumerate(bytes_[: 8 * panels].view(np.int64)):
        if q == 4:
            scales[p] = bytes_[at + 4 * PANEL : at + 8 * PANEL].view(np.float32)
        at += spec.column_bytes
        for cell in lines[p]:
            there = np.unpackbits(bytes_[at : at + size], bitorder="little").astype(bool)
            end = at + size + int(there.sum()) * lines.itemsize
            cell[there] = np.frombuffer(bytes_[at + size : end].tobytes(), lines.dtype)
            at = end
    filled = lines.reshape(panels, groups, PER_GROUP, LANES, q).transpose(1, 4, 0, 2, 3)
    codes = filled.reshape(groups * q, panels * PANEL)[: spec.k, : spec.n]
    codes = np.ascontiguousarray(codes)
    if spec.format is None:
        if spec.short:
            codes = codes.astype(np.uint32) << 16
        return codes.view(np.float32)
    arrays = {"codes": codes}
    if q == 4:
        arrays["scales"] = scales.reshape(1, -1)[:, : spec.n]
    return Encoded((spec.k, spec.n), arrays)


def _stream(lines: np.ndarray, there: np.ndarray) -> np.ndarray:
    """A panel's cells [cells, elements] as bytes: each has its bitmaps and its values."""
    bits = np.packbits(there, axis=1, bitorder="little")
    counts = there.sum(axis=1) * lines.itemsize
    starts = np.cumsum(counts + bits.shape[1]) - counts - bits.shape[1]
    found = np.zeros(int(counts.sum()) + bits.size, np.uint8)
    masks = (starts[:, None] + np.arange(bits.shape[1])).reshape(-1)
    found[masks] = bits.reshape(-1)
    rest = np.ones(len(found), bool)
    rest[masks] = False
    found[rest] = lines[there].view(np.uint8)
    return found


def _codes(weights: np.ndarray | Encoded, spec: BitmapMatmulSpec) -> np.ndarray:
    """[K, N] as they are stored, 0 where nothing is."""
    if isinstance(weights, Encoded):
        codes: np.ndarray = weights["codes"]
        return codes
    wide = np.ascontiguousarray(weights, np.float32)
    wide = np.where(wide == 0, np.float32(0), wide)
    if not spec.short:
        return wide.view(np.uint32)
    import ml_dtypes

    short = wide.astype(ml_dtypes.bfloat16)
    return np.where(short == 0, 0, short.view(np.uint16)).astype(np.uint16)

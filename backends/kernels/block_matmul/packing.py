"""Packed B; the picture is in the package docstring."""

from __future__ import annotations

import numpy as np

from tilewright.backends.kernels.block_matmul.spec import NUMBER, BlockMatmulSpec
from tilewright.backends.llvm.microkernel import PANEL
from tilewright.backends.llvm.sparse_blocks import LINE
from tilewright.compiler.formats.format import Encoded
from tilewright.compiler.formats.sparse import Sparse

_TYPE = {1: np.uint32, 2: np.uint16, 4: np.int8}


def pack(weights: np.ndarray | Encoded, spec: BlockMatmulSpec) -> np.ndarray:
    """f32 [K, N], or what the format has encoded -> uint8 [packed_bytes]. A zero with a sign loses
    it. ValueError if more blocks are there than ``blocks``."""
    codes = _codes(weights, spec)
    filled = np.zeros((spec.groups * spec.q, spec.panels * PANEL), codes.dtype)
    filled[: spec.k, : spec.n] = codes
    # [strip][group][column, k of the group]
    parts = filled.reshape(spec.groups, spec.q, spec.strips, spec.wide).transpose(2, 0, 3, 1)
    lines = np.ascontiguousarray(parts).reshape(spec.strips, spec.groups, spec.wide * spec.q)
    there = np.any(lines, axis=2)
    if np.count_nonzero(there) > spec.blocks:
        raise ValueError(f"{spec.blocks} blocks are too few for these weights")
    packed = np.zeros(spec.packed_bytes, np.uint8)
    head = packed[: 16 * spec.strips].view(np.int64).reshape(spec.strips, 2)
    if spec.q == 4:
        assert isinstance(weights, Encoded)
        scales = np.zeros(spec.panels * PANEL, np.float32)
        scales[: spec.n] = weights["scales"][0]
        columns = _columns(packed, spec)
        sums = filled.sum(axis=0, dtype=np.int32)
        columns[:, 0] = sums.reshape(spec.panels, PANEL)
        columns[:, 1] = scales.view(np.int32).reshape(spec.panels, PANEL)
    at = spec.head_bytes + spec.panels * spec.column_bytes
    for strip in range(spec.strips):
        numbers = np.flatnonzero(there[strip]).astype(np.uint16)
        head[strip] = at, len(numbers)
        packed[at : at + numbers.nbytes] = numbers.view(np.uint8)
        at += -(-numbers.nbytes // LINE) * LINE
        values = np.ascontiguousarray(lines[strip, there[strip]]).view(np.uint8).reshape(-1)
        packed[at : at + len(values)] = values
        at += -(-len(values) // LINE) * LINE
    return packed


def sample(spec: BlockMatmulSpec) -> np.ndarray:
    """Packed weights with as many blocks as there may be, anywhere."""
    rng = np.random.default_rng(0)
    across = -(-spec.n // spec.wide)
    there = np.zeros(spec.groups * across, bool)
    there[rng.permutation(len(there))[: spec.blocks]] = True
    mask = np.repeat(there.reshape(spec.groups, across), spec.q, axis=0)
    mask = np.repeat(mask, spec.wide, axis=1)[: spec.k, : spec.n]
    w = rng.choice([-1, 1], mask.shape) * rng.uniform(0.5, 2, mask.shape) * mask
    matrix = w.astype(np.float32)
    if spec.format is None:
        return pack(matrix, spec)
    return pack(Sparse(spec.format.bits).encode(matrix), spec)


def unpack(packed: np.ndarray, spec: BlockMatmulSpec) -> np.ndarray | Encoded:
    """The exact inverse."""
    bytes_ = packed.reshape(-1).view(np.uint8)
    lines = np.zeros((spec.strips, spec.groups, spec.wide * spec.q), _TYPE[spec.q])
    head = bytes_[: 16 * spec.strips].view(np.int64).reshape(spec.strips, 2)
    for strip, (at, count) in enumerate(head):
        numbers = bytes_[at : at + NUMBER * count].view(np.uint16)
        start = at + -(-NUMBER * count // LINE) * LINE
        values = bytes_[start : start + spec.block_bytes * count].view(lines.dtype)
        lines[strip, numbers] = values.reshape(count, lines.shape[2])
    filled = lines.reshape(spec.strips, spec.groups, spec.wide, spec.q).transpose(1, 3, 0, 2)
    codes = filled.reshape(spec.groups * spec.q, spec.panels * PANEL)[: spec.k, : spec.n]
    codes = np.ascontiguousarray(codes)
    if spec.format is None:
        if spec.short:
            codes = codes.astype(np.uint32) << 16
        return codes.view(np.float32)
    arrays = {"codes": codes}
    if spec.q == 4:
        scales = np.ascontiguousarray(_columns(bytes_, spec)[:, 1]).view(np.float32)
        arrays["scales"] = scales.reshape(1, -1)[:, : spec.n]
    return Encoded((spec.k, spec.n), arrays)


def _columns(packed: np.ndarray, spec: BlockMatmulSpec) -> np.ndarray:
    """i32 [panels][sums, scales][32], a view."""
    end = spec.head_bytes + spec.panels * spec.column_bytes
    return packed[spec.head_bytes : end].view(np.int32).reshape(spec.panels, 2, PANEL)


def _codes(weights: np.ndarray | Encoded, spec: BlockMatmulSpec) -> np.ndarray:
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

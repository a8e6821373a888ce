"""Packed B; the picture is in the package docstring."""

from __future__ import annotations

import numpy as np

from tilewright.backends.kernels.apart_matmul.spec import FORMAT, PLACES, ApartMatmulSpec
from tilewright.backends.llvm.apart_blocks import place
from tilewright.backends.llvm.microkernel import PANEL
from tilewright.backends.llvm.sparse_blocks import LINE
from tilewright.compiler.formats.format import Encoded


def pack(weights: Encoded, spec: ApartMatmulSpec) -> np.ndarray:
    """What the format has encoded -> uint8 [packed_bytes]. ValueError if more blocks are there than
    ``blocks``."""
    filled = np.zeros((spec.k, spec.panels * PANEL), np.int8)
    filled[:, : spec.n] = weights["codes"]
    packed = np.zeros(spec.packed_bytes, np.uint8)
    head = packed[: 16 * spec.strips].view(np.int64).reshape(spec.strips, 2)
    columns = _columns(packed, spec)
    columns[:, 0] = filled.sum(axis=0, dtype=np.int32).reshape(spec.panels, PANEL)
    scales = np.zeros(spec.panels * PANEL, np.float32)
    scales[: spec.n] = weights["scales"][0]
    columns[:, 1] = scales.view(np.int32).reshape(spec.panels, PANEL)
    places = np.array([place(k, spec.k) for k in range(spec.k)], np.uint16)
    at, left = spec.head_bytes + spec.panels * spec.column_bytes, spec.blocks
    for strip in range(spec.strips):
        own = filled[:, strip * spec.wide : (strip + 1) * spec.wide]
        there = np.flatnonzero(own.any(axis=1))
        count = -(-len(there) // 4)
        left -= count
        if left < 0:
            raise ValueError(f"{spec.blocks} blocks are too few for these weights")
        head[strip] = at, count
        numbers = np.zeros(4 * count, np.uint16)
        values = np.zeros((4 * count, spec.wide), np.int8)
        numbers[: len(there)], values[: len(there)] = places[there], own[there]
        blocks = values.reshape(count, 4, spec.wide).transpose(0, 2, 1)
        for part in (numbers, blocks):
            stored = np.ascontiguousarray(part).view(np.uint8).reshape(-1)
            packed[at : at + len(stored)] = stored
            at += -(-len(stored) // LINE) * LINE
    return packed


def sample(spec: ApartMatmulSpec) -> np.ndarray:
    """Packed weights with as many blocks as there may be, as many in each strip."""
    rng = np.random.default_rng(0)
    across = -(-spec.n // spec.wide)
    there = rng.random((spec.k, across)).argsort(axis=0) < 4 * (spec.blocks // across)
    mask = np.repeat(there, spec.wide, axis=1)[:, : spec.n]
    w = rng.choice([-1, 1], mask.shape) * rng.uniform(0.5, 2, mask.shape) * mask
    return pack(FORMAT.encode(w.astype(np.float32)), spec)


def unpack(packed: np.ndarray, spec: ApartMatmulSpec) -> Encoded:
    """The exact inverse."""
    bytes_ = packed.reshape(-1).view(np.uint8)
    filled = np.zeros((spec.k, spec.panels * PANEL), np.int8)
    k_of = {place(k, spec.k): k for k in range(spec.k)}
    head = bytes_[: 16 * spec.strips].view(np.int64).reshape(spec.strips, 2)
    for strip, (at, count) in enumerate(head):
        numbers = bytes_[at : at + PLACES * count].view(np.uint16)
        start = at + -(-PLACES * count // LINE) * LINE
        values = bytes_[start : start + spec.block_bytes * count].view(np.int8)
        lines = values.reshape(count, spec.wide, 4).transpose(0, 2, 1).reshape(-1, spec.wide)
        own = filled[:, strip * spec.wide : (strip + 1) * spec.wide]
        # What fills up the last block are zeros.
        np.add.at(own, [k_of[number] for number in numbers.tolist()], lines)
    codes: np.ndarray = np.ascontiguousarray(filled[:, : spec.n])
    scales: np.ndarray = np.ascontiguousarray(_columns(bytes_, spec)[:, 1]).view(np.float32)
    arrays = {"codes": codes, "scales": scales.reshape(1, -1)[:, : spec.n]}
    return Encoded((spec.k, spec.n), arrays)


def _columns(packed: np.ndarray, spec: ApartMatmulSpec) -> np.ndarray:
    """i32 [panels][sums, scales][32], a view."""
    end = spec.head_bytes + spec.panels * spec.column_bytes
    return packed[spec.head_bytes : end].view(np.int32).reshape(spec.panels, 2, PANEL)

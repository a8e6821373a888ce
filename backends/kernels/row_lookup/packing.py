"""Packed tables; the picture is in the package docstring."""

from __future__ import annotations

import ml_dtypes
import numpy as np

from tilewright.backends.kernels.row_lookup import panels
from tilewright.backends.kernels.row_lookup.spec import GROUP, PANELS, RowLookupSpec, half
from tilewright.backends.llvm.microkernel import PANEL
from tilewright.compiler.formats.format import Encoded


def pack(weights: np.ndarray | Encoded, spec: RowLookupSpec) -> np.ndarray:
    """The transposed table, f32 [D, V] or encoded, in the order of the kernel: f32 [V, D], bf16
    as u16 [V, D], f32 [panels, D, 32], u8 [V, bytes of a row], or as the product has it."""
    if spec.tied:
        product = panels.product(spec.tied, spec.width, spec.rows)
        assert product.family.pack is not None
        return product.family.pack(weights, product.spec)
    if isinstance(weights, Encoded):
        packed = np.zeros((spec.rows, spec.row_bytes), np.uint8)
        (_pack_bytes if spec.kind == "w8-sym" else _pack_nibbles)(weights, spec, packed)
        return packed
    if spec.kind == PANELS:
        filled = np.zeros((spec.width, -(-spec.rows // PANEL) * PANEL), np.float32)
        filled[:, : spec.rows] = weights
        return np.ascontiguousarray(filled.reshape(spec.width, -1, PANEL).transpose(1, 0, 2))
    rows = np.ascontiguousarray(weights.T, np.float32)
    return rows.astype(ml_dtypes.bfloat16).view(np.uint16) if spec.kind == "bf16" else rows


def unpack(packed: np.ndarray, spec: RowLookupSpec) -> np.ndarray | Encoded:
    """What was packed; bf16 as the f32 numbers that it holds."""
    if spec.tied:
        product = panels.product(spec.tied, spec.width, spec.rows)
        assert product.family.unpack is not None
        return product.family.unpack(packed, product.spec)
    if spec.kind == PANELS:
        filled = packed.reshape(-1, spec.width, PANEL).transpose(1, 0, 2)
        return np.ascontiguousarray(filled.reshape(spec.width, -1)[:, : spec.rows])
    rows = packed.reshape(spec.rows, -1)
    if spec.kind == "f32":
        return np.ascontiguousarray(rows.T)
    if spec.kind == "bf16":
        return np.ascontiguousarray(rows.view(ml_dtypes.bfloat16).astype(np.float32).T)
    return (_unpack_bytes if spec.kind == "w8-sym" else _unpack_nibbles)(rows, spec)


def _pack_bytes(weights: Encoded, spec: RowLookupSpec, packed: np.ndarray) -> None:
    packed[:, :4] = weights["scales"][0].astype(np.float32).reshape(-1, 1).view(np.uint8)
    packed[:, 4 : 4 + spec.width] = (weights["codes"].T ^ 128).astype(np.uint8)


def _unpack_bytes(rows: np.ndarray, spec: RowLookupSpec) -> Encoded:
    arrays = {
        "codes": np.ascontiguousarray(rows[:, 4 : 4 + spec.width].T ^ 128),
        "scales": np.ascontiguousarray(rows[:, :4]).view(np.float32).T.copy(),
        "zeros": np.full((1, spec.rows), 128, np.uint8),
    }
    return Encoded((spec.width, spec.rows), arrays)


def _pack_nibbles(weights: Encoded, spec: RowLookupSpec, packed: np.ndarray) -> None:
    groups, codes = spec.groups, weights["codes"]
    scales = np.ascontiguousarray(weights["scales"].T).astype(np.float16)
    packed[:, : 2 * groups] = scales.view(np.uint8)
    packed[:, 2 * groups : 3 * groups] = weights["zeros"].T
    at = 3 * groups
    for g, size in enumerate(spec.sizes):
        own = codes[g * GROUP : g * GROUP + size].T
        count = half(size)
        packed[:, at : at + count] = own[:, :count]
        packed[:, at : at + size - count] |= own[:, count:] << 4
        at += count


def _unpack_nibbles(rows: np.ndarray, spec: RowLookupSpec) -> Encoded:
    groups, parts = spec.groups, []
    at = 3 * groups
    for size in spec.sizes:
        count = half(size)
        own = rows[:, at : at + count]
        parts += [own & 15, own[:, : size - count] >> 4]
        at += count
    scales = np.ascontiguousarray(rows[:, : 2 * groups]).view(np.float16)
    arrays = {
        "codes": np.ascontiguousarray(np.concatenate(parts, axis=1).T),
        "scales": scales.T.astype(np.float32),
        "zeros": np.ascontiguousarray(rows[:, 2 * groups : 3 * groups].T),
    }
    return Encoded((spec.width, spec.rows), arrays)

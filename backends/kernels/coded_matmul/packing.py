"""Packed B; the picture is in the package docstring."""

from __future__ import annotations

import numpy as np

from tilewright.backends.kernels.coded_matmul.spec import CodedMatmulSpec
from tilewright.backends.llvm.microkernel import PANEL
from tilewright.compiler.formats.format import Encoded


def pack(weights: Encoded | np.ndarray, spec: CodedMatmulSpec) -> np.ndarray:
    """Codes, scales and zero points -> u8 [panels, panel_bytes]; f32 [K, N] are encoded first."""
    if isinstance(weights, np.ndarray):
        weights = spec.format.encode(weights)
    bits, word = spec.format.bits, spec.word
    codes = _panels(weights["codes"], spec.words * word, spec)
    shifts = np.arange(word, dtype=np.uint32)[:, None] * np.uint32(bits)
    words = codes.reshape(spec.panels, spec.words, word, PANEL).astype(np.uint32) << shifts
    scales = _panels(weights["scales"], spec.groups, spec)
    parts = [
        np.bitwise_or.reduce(words, axis=2),
        scales.astype(np.float16 if spec.format.half else np.float32),
    ]
    if spec.format.zeros:
        kind = np.uint8 if spec.format.zeros == "u8" else np.float32
        parts.append(_panels(weights["zeros"], spec.groups, spec).astype(kind))
    packed = np.zeros((spec.panels, spec.panel_bytes), np.uint8)
    at = 0
    for part in parts:
        raw = np.ascontiguousarray(part).reshape(spec.panels, -1).view(np.uint8)
        packed[:, at : at + raw.shape[1]] = raw
        at += raw.shape[1]
    return packed


def unpack(packed: np.ndarray, spec: CodedMatmulSpec) -> Encoded:
    """The codes, scales and zero points that were packed."""
    bits, word, groups = spec.format.bits, spec.word, spec.groups
    rows = packed.reshape(spec.panels, spec.panel_bytes)
    words = _read(rows, 0, np.dtype(np.uint32), spec.words)
    shifts = np.arange(word, dtype=np.uint32)[:, None] * np.uint32(bits)
    codes = (words[:, :, None, :] >> shifts) & np.uint32((1 << bits) - 1)
    scale = np.dtype(np.float16 if spec.format.half else np.float32)
    scales = _read(rows, spec.code_bytes, scale, groups).astype(np.float32)
    zeros = np.full(scales.shape, 2 ** (bits - 1), np.float32)
    if spec.format.zeros:
        kind = np.dtype(np.uint8 if spec.format.zeros == "u8" else np.float32)
        at = spec.code_bytes + PANEL * groups * spec.scale_bytes
        zeros = _read(rows, at, kind, groups).astype(np.float32)
    flat = codes.reshape(spec.panels, spec.words * word, PANEL)
    return Encoded(
        (spec.k, spec.n),
        {
            "codes": _matrix(flat, spec.k, spec).astype(np.uint8),
            "scales": _matrix(scales, groups, spec),
            "zeros": _matrix(zeros, groups, spec),
        },
    )


def _panels(array: np.ndarray, rows: int, spec: CodedMatmulSpec) -> np.ndarray:
    """[R, N] -> [panels, rows, 32], zeros beyond R and N."""
    filled = np.zeros((rows, spec.panels * PANEL), array.dtype)
    filled[: len(array), : spec.n] = array
    return filled.reshape(rows, spec.panels, PANEL).transpose(1, 0, 2)


def _matrix(panels: np.ndarray, rows: int, spec: CodedMatmulSpec) -> np.ndarray:
    """The inverse of `_panels`."""
    flat = panels.transpose(1, 0, 2).reshape(panels.shape[1], spec.panels * PANEL)
    return np.ascontiguousarray(flat[:rows, : spec.n])


def _read(rows: np.ndarray, at: int, kind: np.dtype, count: int) -> np.ndarray:
    """[panels, count, 32] of `kind`, `at` bytes from the beginning of every panel."""
    size = count * PANEL * kind.itemsize
    raw = np.ascontiguousarray(rows[:, at : at + size])
    return raw.view(kind).reshape(len(rows), count, PANEL)

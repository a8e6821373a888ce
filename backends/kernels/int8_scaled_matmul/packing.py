"""Packed B; the picture is in the package docstring."""

from __future__ import annotations

import numpy as np

from tilewright.backends.kernels.int8_scaled_matmul.spec import ScaledMatmulSpec
from tilewright.backends.llvm.bf16_block import STEP as TAIL
from tilewright.backends.llvm.int8 import QUADS, STEP
from tilewright.backends.llvm.int8_block import steps
from tilewright.backends.llvm.microkernel import PANEL
from tilewright.compiler.formats.copies import shares
from tilewright.compiler.formats.format import Encoded

ZERO = 128
"""The code of no weight."""


def pack(encoded: Encoded, spec: ScaledMatmulSpec) -> np.ndarray:
    """Weights in ``spec.format`` -> u8 [bytes]; K and N are filled up with zeros."""
    panels = spec.panel_count
    filled = np.zeros((spec.depth, panels * PANEL), np.int8)
    filled[: spec.k, : spec.n] = encoded["codes"].astype(np.int16) - ZERO
    if spec.copies:
        filled[-spec.copies :] = filled[encoded["channels"]]
    scales = np.zeros(panels * PANEL, np.float32)
    scales[: spec.n] = encoded["scales"][0]
    shape = (steps(spec.depth), QUADS, 4, panels, PANEL)
    parts = [
        filled.reshape(shape).transpose(3, 0, 1, 4, 2),
        filled.sum(0, dtype=np.int32),
        scales,
    ]
    behind: list[np.ndarray] = []
    if spec.outliers:
        tail = np.zeros((TAIL, panels * PANEL), np.uint16)
        tail[: spec.outliers, : spec.n] = encoded["outliers"]
        parts.append(tail.reshape(TAIL // 2, 2, panels, PANEL).transpose(2, 0, 3, 1))
        keep = np.full(steps(spec.k) * STEP, -1, np.int32)
        keep[encoded["channels"]] = 0
        behind = [keep, encoded["channels"].astype(np.int32)]
    elif spec.copies:
        channels = encoded["channels"].astype(np.int32)
        inverse = np.ones(steps(spec.k) * STEP, np.float32)
        inverse[: spec.k] = shares(channels, spec.k)
        # Channels are in order: how many of the same there are so far.
        before = 1 + np.arange(spec.copies) - np.searchsorted(channels, channels)
        behind = [inverse, channels, *((x * before).astype(np.int32) for x in (-128, 127))]
    elif spec.table_bytes:
        factors = np.zeros(steps(spec.k) * STEP, np.float32)
        factors[: spec.k] = encoded["factors"]
        behind = [factors]
    columns = [np.ascontiguousarray(p).view(np.uint8).reshape(panels, -1) for p in parts]
    whole = np.concatenate(columns, axis=1).reshape(-1)
    return np.concatenate([whole, *(b.view(np.uint8) for b in behind)])


def unpack(packed: np.ndarray, spec: ScaledMatmulSpec) -> Encoded:
    """The exact inverse."""
    panels, size = spec.panel_count, spec.panel_bytes
    bytes_ = packed.reshape(-1).view(np.uint8)
    each = bytes_[: panels * size].reshape(panels, size)
    ends = np.cumsum([spec.depth * PANEL, 4 * PANEL, 4 * PANEL])
    codes, _, scales, tail = (np.ascontiguousarray(p) for p in np.split(each, ends, axis=1))
    shape = (panels, steps(spec.depth), QUADS, PANEL, 4)
    filled = codes.view(np.int8).reshape(shape).transpose(1, 2, 4, 0, 3)
    matrix = filled.reshape(spec.depth, panels * PANEL)[: spec.k, : spec.n]
    arrays: dict[str, np.ndarray] = {
        "codes": (matrix.astype(np.int16) + ZERO).astype(np.uint8),
        "scales": scales.view(np.float32).reshape(1, -1)[:, : spec.n],
        "zeros": np.full((1, spec.n), ZERO, np.uint8),
    }
    if spec.outliers:
        pairs = tail.view(np.uint16).reshape(panels, TAIL // 2, PANEL, 2).transpose(1, 3, 0, 2)
        arrays["outliers"] = pairs.reshape(TAIL, panels * PANEL)[: spec.outliers, : spec.n]
    if spec.rewrite and spec.table_bytes:
        behind = np.ascontiguousarray(bytes_[panels * size :])
        arrays["factors"] = behind.view(np.float32)[: spec.k]
    elif spec.outliers or spec.copies:
        behind = np.ascontiguousarray(bytes_[panels * size + spec.table_bytes :])
        arrays["channels"] = behind.view(np.int32)[: spec.outliers + spec.copies]
    return Encoded((spec.k, spec.n), arrays)

"""Packed B; the picture is in the package docstring."""

from __future__ import annotations

from typing import Any

import numpy as np

from tilewright.backends.kernels.int8_matmul.spec import Int8MatmulSpec
from tilewright.backends.llvm.int8 import QUADS, STEP
from tilewright.backends.llvm.int8_block import steps
from tilewright.backends.llvm.microkernel import PANEL

TYPES: dict[str, np.dtype[Any]] = {"u8": np.dtype(np.uint8), "s8": np.dtype(np.int8)}


def pack(weights: np.ndarray, spec: Int8MatmulSpec) -> np.ndarray:
    """[K, N] of ``spec.b`` -> s8 [panels, bytes of a panel]; K and N are filled up with zeros.

    With zero points: [K + 1, N] of any integer type, of which the last row are the zero points,
    or [K, N] when all are 0.
    """
    flip = 128 if spec.b == "u8" else 0
    depth, width = steps(spec.k) * STEP, spec.panel_count * PANEL
    filled = np.zeros((depth, width), np.int8)
    filled[: spec.k, : spec.n] = weights[: spec.k].astype(np.int16) - flip
    shape = (steps(spec.k), QUADS, 4, spec.panel_count, PANEL)
    tiles = np.ascontiguousarray(filled.reshape(shape).transpose(3, 0, 1, 4, 2))
    tail = [filled.sum(0, dtype=np.int32)]
    if spec.zero_points:
        points = np.zeros(width, np.int32)
        points[: spec.n] = weights[spec.k :].astype(np.int32).sum(0) - flip
        tail.append(points)
    columns = np.stack([t.reshape(spec.panel_count, PANEL) for t in tail], 1)
    parts = (
        tiles.reshape(spec.panel_count, -1),
        columns.view(np.int8).reshape(spec.panel_count, -1),
    )
    return np.concatenate(parts, 1)


def unpack(packed: np.ndarray, spec: Int8MatmulSpec) -> np.ndarray:
    """What was packed: [K, N] of ``spec.b``, or i16 [K + 1, N] with zero points."""
    flip = 128 if spec.b == "u8" else 0
    panels = packed.reshape(spec.panel_count, -1)
    tiles = panels[:, : steps(spec.k) * STEP * PANEL]
    shape = (spec.panel_count, steps(spec.k), QUADS, PANEL, 4)
    filled = tiles.reshape(shape).transpose(1, 2, 4, 0, 3)
    matrix = filled.reshape(steps(spec.k) * STEP, spec.panel_count * PANEL)
    values = matrix[: spec.k, : spec.n].astype(np.int16) + flip
    if not spec.zero_points:
        return values.astype(TYPES[spec.b])
    tail = np.ascontiguousarray(panels[:, -4 * PANEL :]).view(np.int32)
    points = tail.reshape(-1)[: spec.n] + flip
    return np.concatenate((values, points[None].astype(np.int16)))


def unpack_difference(packed: np.ndarray, spec: Int8MatmulSpec) -> np.ndarray:
    """B less its zero points: i64 [K, N]."""
    values = unpack(packed, spec).astype(np.int64)
    return values[: spec.k] - values[spec.k] if spec.zero_points else values

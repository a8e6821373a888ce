"""Packed B; the picture is in the package docstring."""

from __future__ import annotations

import numpy as np

from tilewright.backends.kernels.plane_matmul.spec import PlaneMatmulSpec
from tilewright.backends.llvm.microkernel import PANEL
from tilewright.backends.llvm.plane_codes import BLOCK, LINES
from tilewright.compiler.formats.format import Encoded

_PLACES = np.argsort([16 * (i % 2) + i // 2 for i in range(PANEL)])
"""Byte of a line that each column has."""


def pack(encoded: Encoded, spec: PlaneMatmulSpec) -> np.ndarray:
    """Codes uint8 [K, N] and scales (and zeros) -> uint8 [panels, bytes of a panel]. What fills K
    and N up is 0."""
    panel, panels = spec.panel, spec.shape.panels
    codes = np.zeros((panel.depth, panels * PANEL), np.uint8)
    codes[: spec.k, : spec.n] = encoded["codes"]
    # [block, line, k of the line, panel, column]
    parts = codes.reshape(panel.depth // BLOCK, LINES, 8, panels, PANEL)
    lines = np.zeros((panels, panel.depth // BLOCK, panel.bits, LINES, PANEL), np.uint8)
    for i in range(panel.bits):
        for j in range(8):
            bit = (parts[:, :, j] >> i & 1) << j
            lines[:, :, i, :, _PLACES] |= bit.transpose(3, 2, 0, 1)
    packed = np.zeros((panels, panel.bytes), np.uint8)
    packed[:, : panel.code_bytes] = lines.reshape(panels, -1)
    scales = _scales(encoded["scales"], spec).reshape(panels, -1).view(np.uint8)
    packed[:, panel.code_bytes : panel.zeros_at] = scales
    if panel.kind == "even":
        zeros = _columns(encoded["zeros"][:, None], spec).reshape(panels, -1)
        packed[:, panel.zeros_at : panel.zeros_at + zeros.shape[1]] = zeros
    return packed


def unpack(packed: np.ndarray, spec: PlaneMatmulSpec) -> Encoded:
    """What was packed."""
    panel, panels = spec.panel, spec.shape.panels
    rows = packed.reshape(panels, panel.bytes)
    shape = (panels, panel.depth // BLOCK, panel.bits, LINES, PANEL)
    lines = rows[:, : panel.code_bytes].reshape(shape)[..., _PLACES]
    codes = np.zeros((panel.depth // BLOCK, LINES, 8, panels, PANEL), np.uint8)
    for i in range(panel.bits):
        for j in range(8):
            codes[:, :, j] |= (lines[:, :, i] >> j & 1).transpose(1, 2, 0, 3) << i
    flat = codes.reshape(panel.depth, panels * PANEL)
    raw = np.ascontiguousarray(rows[:, panel.code_bytes : panel.zeros_at])
    arrays = {
        "codes": np.ascontiguousarray(flat[: spec.k, : spec.n]),
        "scales": _numbers(raw, spec),
    }
    if panel.kind == "even":
        zeros = rows[:, panel.zeros_at : panel.zeros_at + panel.groups * PANEL]
        arrays["zeros"] = _rows(zeros.reshape(panels, panel.groups, 1, PANEL), spec)[:, 0]
        arrays["scales"] = arrays["scales"][:, 0]
    return Encoded((spec.k, spec.n), arrays)


def _scales(scales: np.ndarray, spec: PlaneMatmulSpec) -> np.ndarray:
    """[panels, G, scales of a column, 32] as they are stored."""
    if spec.panel.kind == "even":
        scales = scales[:, None]
    found = _columns(scales, spec)
    if spec.panel.kind == "shift":
        return np.ascontiguousarray((found.view(np.uint32) >> 23).astype(np.uint8))
    return found.astype(np.float16) if spec.panel.group else found


def _numbers(raw: np.ndarray, spec: PlaneMatmulSpec) -> np.ndarray:
    """Stored scales as f32 [G, scales of a column, N]."""
    panel = spec.panel
    kinds = {1: np.uint8, 2: np.float16, 4: np.float32}
    shape = (spec.shape.panels, panel.groups, panel.scales, PANEL)
    found = _rows(raw.view(kinds[panel.scale_bytes]).reshape(shape), spec)
    if panel.kind == "shift":
        return (found.astype(np.uint32) << 23).view(np.float32)
    return found.astype(np.float32)


def _columns(values: np.ndarray, spec: PlaneMatmulSpec) -> np.ndarray:
    """[G, S, N] -> [panels, G, S, 32]."""
    panels = spec.shape.panels
    filled = np.zeros((*values.shape[:2], panels * PANEL), values.dtype)
    filled[..., : spec.n] = values
    parts = filled.reshape(*values.shape[:2], panels, PANEL)
    return np.ascontiguousarray(parts.transpose(2, 0, 1, 3))


def _rows(values: np.ndarray, spec: PlaneMatmulSpec) -> np.ndarray:
    """[panels, G, S, 32] -> [G, S, N]."""
    flat = values.transpose(1, 2, 0, 3).reshape(*values.shape[1:3], -1)
    return np.ascontiguousarray(flat[..., : spec.n])

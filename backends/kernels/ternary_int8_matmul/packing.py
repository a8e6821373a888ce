"""Packed B; the picture is in the package docstring."""

from __future__ import annotations

import numpy as np

from tilewright.backends.kernels.ternary_int8_matmul.spec import TernaryInt8MatmulSpec
from tilewright.backends.llvm.microkernel import PANEL
from tilewright.compiler.formats.format import Encoded

_STEPS = np.array([9, 3, 1])
_THIRDS = 5 * np.arange(3)
_PLACES = 2 * np.arange(4)


def pack(encoded: Encoded, spec: TernaryInt8MatmulSpec) -> np.ndarray:
    """Codes uint8 [K, N] and scales f32 [N] -> uint8 [panels, bytes of a panel]; K is filled up
    with weights of 0, N with scales of 0."""
    panel, panels = spec.panel, spec.shape.panels
    codes = np.ones((panel.depth, panels * PANEL), np.uint16)
    codes[: spec.k, : spec.n] = encoded["codes"]
    if spec.trits:
        parts = codes.reshape(panel.lines, 3, 3, panels, PANEL)
        thirds = np.einsum("ltipc,i->ltpc", parts, _STEPS)
        words = np.einsum("ltpc,t->plc", thirds, 1 << _THIRDS)
        lines = words.astype(np.uint16).view(np.uint8)
    else:
        parts = codes.reshape(panel.lines, 4, 4, panels, PANEL)
        lines = np.einsum("ljipc,j->plci", parts, 1 << _PLACES).astype(np.uint8)
    packed = np.zeros((panels, panel.bytes), np.uint8)
    packed[:, : panel.code_bytes] = lines.reshape(panels, -1)
    scales = np.zeros(panels * PANEL, np.float32)
    scales[: spec.n] = encoded["scales"]
    packed[:, panel.code_bytes :] = scales.reshape(panels, PANEL).view(np.uint8)
    return packed


def unpack(packed: np.ndarray, spec: TernaryInt8MatmulSpec) -> Encoded:
    """What was packed."""
    panel, panels = spec.panel, spec.shape.panels
    rows = packed.reshape(panels, panel.bytes)
    raw = np.ascontiguousarray(rows[:, : panel.code_bytes])
    if spec.trits:
        words = raw.view(np.uint16).reshape(panels, panel.lines, 1, 1, PANEL)
        thirds = words >> _THIRDS[:, None, None].astype(np.uint16) & 31
        codes = thirds // _STEPS[:, None].astype(np.uint16) % 3
        codes = codes.transpose(1, 2, 3, 0, 4)
    else:
        quads = raw.reshape(panels, panel.lines, 1, PANEL, 4)
        codes = quads >> _PLACES[:, None, None].astype(np.uint8) & 3
        codes = codes.transpose(1, 2, 4, 0, 3)
    flat = codes.reshape(panel.depth, panels * PANEL)[: spec.k, : spec.n]
    scales = np.ascontiguousarray(rows[:, panel.code_bytes :]).view(np.float32).reshape(-1)
    arrays: dict[str, np.ndarray] = {
        "codes": np.ascontiguousarray(flat.astype(np.uint8)),
        "scales": scales[: spec.n].copy(),
    }
    return Encoded((spec.k, spec.n), arrays)

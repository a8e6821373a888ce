"""Packed B; the picture is in the package docstring."""

from __future__ import annotations

import numpy as np

from tilewright.backends.kernels.f8_matmul.spec import F8MatmulSpec
from tilewright.backends.llvm.bf16_block import STEP, steps
from tilewright.backends.llvm.microkernel import PANEL
from tilewright.compiler.formats.format import Encoded


def pack(encoded: Encoded, spec: F8MatmulSpec) -> np.ndarray:
    """Codes uint8 [K, N] and scales f32 [1, N] -> uint8 [packed_bytes]."""
    count = steps(spec.k)
    codes = np.zeros((count * STEP, spec.panels * PANEL), np.uint8)
    codes[: spec.k, : spec.n] = encoded["codes"]
    # [step, pair, 2, panel, column] -> [panel, step, pair, column, 2]
    moved = codes.reshape(count, STEP // 2, 2, spec.panels, PANEL).transpose(3, 0, 1, 4, 2)
    scales = np.zeros(spec.panels * PANEL, np.float32)
    scales[: spec.n] = encoded["scales"][0]
    return np.concatenate((np.ascontiguousarray(moved).reshape(-1), scales.view(np.uint8)))


def unpack(packed: np.ndarray, spec: F8MatmulSpec) -> Encoded:
    """What was packed."""
    shape = (spec.panels, steps(spec.k), STEP // 2, PANEL, 2)
    moved = packed[: spec.scales_at].reshape(shape).transpose(1, 2, 4, 0, 3)
    codes = moved.reshape(-1, spec.panels * PANEL)[: spec.k, : spec.n]
    scales = packed[spec.scales_at :].view(np.float32)[None, : spec.n]
    arrays = {"codes": np.ascontiguousarray(codes), "scales": scales}
    return Encoded((spec.k, spec.n), arrays)

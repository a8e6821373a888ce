"""Packed B: as in grouped_mma, so that both families read the same bytes."""

from __future__ import annotations

import numpy as np

from tilewright.backends.kernels.grouped_imma.spec import GroupedImmaSpec
from tilewright.backends.kernels.grouped_mma import GroupedMmaSpec
from tilewright.backends.kernels.grouped_mma.packing import pack as pack_operands
from tilewright.backends.kernels.grouped_mma.packing import unpack as unpack_operands
from tilewright.compiler.formats.format import Encoded


def pack(encoded: Encoded, spec: GroupedImmaSpec) -> np.ndarray:
    """Codes uint8 [K, N], scales f32 and zeros uint8 [G, N] -> uint8 [bytes]."""
    return pack_operands(encoded, _operands(spec))


def unpack(packed: np.ndarray, spec: GroupedImmaSpec) -> Encoded:
    """What was packed."""
    return unpack_operands(packed, _operands(spec))


def _operands(spec: GroupedImmaSpec) -> GroupedMmaSpec:
    return GroupedMmaSpec(spec.k, spec.n, spec.format)

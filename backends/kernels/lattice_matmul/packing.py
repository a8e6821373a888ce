"""Packed B; the picture is in the package docstring."""

from __future__ import annotations

import numpy as np

from tilewright.backends.kernels.grouped_matmul import packing as grouped
from tilewright.backends.kernels.lattice_matmul.spec import LatticeMatmulSpec
from tilewright.compiler.formats.format import Encoded
from tilewright.compiler.formats.lattice import SIZE


def pack(encoded: Encoded, spec: LatticeMatmulSpec) -> np.ndarray:
    """Codes uint8 [K, N], scales f32 [G, N] (f16 values), bases f32 [G, 8, 8] -> uint8 [bytes]."""
    codes = grouped.pack(encoded, spec.inner).reshape(-1)
    tables = np.concatenate((encoded["bases"],) * 2, axis=2)
    return np.concatenate((codes, np.ascontiguousarray(tables, np.float32).view(np.uint8).ravel()))


def unpack(packed: np.ndarray, spec: LatticeMatmulSpec) -> Encoded:
    """What was packed."""
    inner = grouped.unpack(packed[: spec.tables_at], spec.inner)
    tables = packed[spec.tables_at :].view(np.float32).reshape(-1, SIZE, 2 * SIZE)
    arrays = {
        "codes": inner["codes"],
        "scales": inner["scales"],
        "bases": np.ascontiguousarray(tables[:, :, :SIZE]),
    }
    return Encoded((spec.k, spec.n), arrays)

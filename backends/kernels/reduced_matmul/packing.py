"""Packed B is the product's."""

from __future__ import annotations

from typing import Any

import numpy as np

from tilewright.backends.kernels.reduced_matmul.spec import ReducedMatmulSpec


def pack(weights: Any, spec: ReducedMatmulSpec) -> np.ndarray:
    """What the product's family takes, as it packs it."""
    assert spec.family.pack is not None
    return spec.family.pack(weights, spec.product)


def unpack(packed: np.ndarray, spec: ReducedMatmulSpec) -> Any:
    """The exact inverse."""
    assert spec.family.unpack is not None
    return spec.family.unpack(packed, spec.product)

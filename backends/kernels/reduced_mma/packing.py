"""Packed B is the product's."""

from __future__ import annotations

from typing import Any

import numpy as np

from tilewright.backends.kernels.reduced_mma.spec import ReducedMmaSpec


def pack(weights: Any, spec: ReducedMmaSpec) -> np.ndarray:
    """What the product's family takes, as it packs it."""
    assert spec.family.pack is not None
    return spec.family.pack(weights, spec.product)


def unpack(packed: np.ndarray, spec: ReducedMmaSpec) -> Any:
    """The exact inverse."""
    assert spec.family.unpack is not None
    return spec.family.unpack(packed, spec.product)

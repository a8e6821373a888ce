"""Packed B: its numbers in the order of mma's operands; the picture is in fewparts.cuh."""

from __future__ import annotations

import ml_dtypes
import numpy as np

from tilewright.backends.cuda import operands
from tilewright.backends.kernels.mma_matmul.spec import MmaMatmulSpec

TYPES = {"f16": np.float16, "bf16": ml_dtypes.bfloat16}


def pack(weights: np.ndarray, spec: MmaMatmulSpec) -> np.ndarray:
    """[K, N] f32 -> uint8 [bytes], rounded to nearest even."""
    with np.errstate(over="ignore"):
        rounded = weights.astype(TYPES[spec.dtype])
    return operands.pack(spec.weights, np.ascontiguousarray(rounded).view(np.uint16))


def unpack(packed: np.ndarray, spec: MmaMatmulSpec) -> np.ndarray:
    """[K, N] f32, exact for weights of the type."""
    bits, _, _ = operands.unpack(spec.weights, packed.view(np.uint8))
    found: np.ndarray = bits.view(TYPES[spec.dtype]).astype(np.float32)
    return found


def suits(weights: np.ndarray) -> bool:
    """Whether weights stay finite when they are rounded to f16."""
    return bool((np.abs(weights) <= np.finfo(np.float16).max).all())

"""Packed B; the picture is in the package docstring."""

from __future__ import annotations

import numpy as np

from tilewright.backends.kernels.bf16_matmul.spec import Bf16MatmulSpec
from tilewright.backends.llvm.bf16_block import STEP
from tilewright.backends.llvm.microkernel import PANEL


def pack(weights: np.ndarray, spec: Bf16MatmulSpec) -> np.ndarray:
    """[K, N] f32 -> u16 bits of bf16 [ceil(N/32), ceil(K/32), planes, 16, 32, 2], contiguous.

    Pass a transposed source as ``.T``. K and N are filled up with zeros.
    """
    filled = np.zeros((spec.steps * STEP, spec.panels * PANEL), np.float32)
    filled[: spec.k, : spec.n] = weights
    planes = np.stack(split(filled, spec.planes))
    shape = (spec.planes, spec.steps, STEP // 2, 2, spec.panels, PANEL)
    return np.ascontiguousarray(planes.reshape(shape).transpose(4, 1, 0, 2, 5, 3))


def unpack(packed: np.ndarray, spec: Bf16MatmulSpec) -> np.ndarray:
    """The [K, N] matrix that ``packed`` stands for, in float64: the sum of its planes.

    Packing it again gives the same bytes: ``pack`` loses only what it rounds.
    """
    shape = (spec.panels, spec.steps, spec.planes, STEP // 2, PANEL, 2)
    planes = widen(packed.reshape(shape)).transpose(2, 1, 3, 5, 0, 4)
    filled = planes.reshape(spec.planes, spec.steps * STEP, spec.panels * PANEL)
    with np.errstate(invalid="ignore"):
        return np.ascontiguousarray(filled.sum(0)[: spec.k, : spec.n])


def split(values: np.ndarray, planes: int) -> list[np.ndarray]:
    """f32 as the sum of ``planes`` bf16 values (u16 bits), as backends.llvm.bf16.split does it:
    what rounds to infinity, and NaN, goes to the last plane; subnormals become zero."""
    parts, rest = [], values.astype(np.float32)
    with np.errstate(invalid="ignore", over="ignore"):
        for _ in range(planes):
            part = round_to_bf16(rest)
            parts.append(part)
            rest = rest - widen(part).astype(np.float32)
    infinite = (parts[0] & 0x7F80) == 0x7F80
    special = parts[0].copy()
    for part in parts:
        part[infinite] = 0
    parts[-1][infinite] = special[infinite]
    return parts


def round_to_bf16(values: np.ndarray) -> np.ndarray:
    """The bits (u16) of f32 values rounded to nearest even; NaN quiet, subnormals to zero."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    # A carry out of the low half rounds up; numbers stay below 2**32 as only NaNs come near.
    rounded = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16
    rounded = np.where(bits & 0x7FFFFFFF > 0x7F800000, bits >> 16 | 0x40, rounded)
    rounded = np.where(bits & 0x7F800000 == 0, bits >> 16 & 0x8000, rounded)
    return rounded.astype(np.uint16)


def widen(bits: np.ndarray) -> np.ndarray:
    """bf16 bits as float64."""
    wide = (bits.astype(np.uint32) << 16).view(np.float32)
    with np.errstate(invalid="ignore"):
        return wide.astype(np.float64)

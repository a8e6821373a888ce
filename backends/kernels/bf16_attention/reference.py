"""Meaning of attention with bf16 products, in numpy over the kernel's own operands."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tilewright.backends.kernels.bf16_attention.spec import Bf16AttentionSpec
from tilewright.backends.kernels.bf16_matmul.packing import split, widen
from tilewright.backends.kernels.f32_attention import reference as f32
from tilewright.backends.llvm import bf16
from tilewright.backends.llvm.exp2 import LOG2E


def run(
    spec: Bf16AttentionSpec, args: Sequence[np.ndarray], dims: tuple[int, ...]
) -> tuple[np.ndarray, ...]:
    """Y in float64, dense, as f32_attention's: operands rounded or split, sums exact."""
    q, k, v = f32.operands(spec, args, dims)
    factor = np.float32(spec.scale * LOG2E)
    with np.errstate(invalid="ignore"):
        scores = _product(spec, q.astype(np.float32) * factor, k.swapaxes(-1, -2)) / LOG2E
    scores = f32.masked(spec, scores, args, dims)
    return f32.ordered(f32.attend(scores, _whole(spec, v), spec.masked_zero), dims)


def _whole(spec: Bf16AttentionSpec, values: np.ndarray) -> np.ndarray:
    """What the planes of ``values`` add up to."""
    total: np.ndarray = np.stack([widen(part) for part in split(values, spec.planes)]).sum(0)
    return total


def _product(spec: Bf16AttentionSpec, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    left, right = split(a, spec.planes), split(b, spec.planes)
    total = np.zeros((*a.shape[:-1], b.shape[-1]))
    for i, j in bf16.ORDER[spec.products]:
        total += widen(left[i]) @ widen(right[j])
    return total

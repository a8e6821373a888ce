"""Meaning of fused attention on GPUs, in numpy over the kernel's own operands."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tilewright.backends.kernels.bf16_matmul.packing import split, widen
from tilewright.backends.kernels.f32_attention import reference as f32
from tilewright.backends.kernels.gpu_attention.spec import GpuAttentionSpec


def run(
    spec: GpuAttentionSpec, args: Sequence[np.ndarray], dims: tuple[int, ...]
) -> tuple[np.ndarray, ...]:
    """Y in float64, dense, as f32_attention's: bf16 operands rounded, all else exact."""
    q, k, v = f32.operands(spec, args, dims)
    if spec.math == "bf16":
        q, k, v = (widen(split(x, 1)[0]).astype(np.float64) for x in (q, k, v))
    with np.errstate(invalid="ignore"):
        scores = f32.masked(spec, spec.scale * (q @ k.swapaxes(-1, -2)), args, dims)
    return f32.ordered(f32.attend(scores, v, spec.masked_zero), dims)

"""Meaning of attention over caches in codes, in numpy over the kernel's own operands."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tilewright.backends.kernels.cached_attention.spec import CachedAttentionSpec
from tilewright.backends.kernels.f32_attention.reference import attend


def run(
    spec: CachedAttentionSpec, args: Sequence[np.ndarray], dims: tuple[int, ...]
) -> tuple[np.ndarray, ...]:
    """Y in float64, dense: [batch, heads, seq_q, value_dim], or with heads and sequence swapped
    where Y's head stride is the smaller one."""
    batch, heads, seq_q, seq_k, offset = dims[:5]
    shared = (batch, heads // spec.group, seq_k)
    q = _strided(args[0], (batch, heads, seq_q, spec.head_dim), (*dims[5:8], 1)).astype(np.float64)
    k, v = (
        np.repeat(
            spec.made.decode(
                _strided(args[at], (*shared, spec.made.width(size)), (*strides[:3], 1)),
                _strided(args[at + 1], shared, (*strides[3:], 1)),
            ),
            spec.group,
            axis=1,
        )
        for at, size, strides in (
            (1, spec.head_dim, dims[8:13]),
            (3, spec.value_dim, dims[13:18]),
        )
    )
    scores = spec.scale * (q @ k.swapaxes(-1, -2))
    if spec.mask is not None:
        mask = _strided(args[5], scores.shape, dims[21:25])
        scores = scores + mask if spec.mask == "f32" else np.where(mask != 0, scores, -np.inf)
    if spec.causal:
        visible = np.arange(seq_k) <= np.arange(seq_q)[:, None] + offset
        scores = np.where(visible, scores, -np.inf)
    y = attend(scores, v, spec.masked_zero)
    swapped = dims[19] < dims[20] and seq_q > 0
    return (y.swapaxes(1, 2) if swapped else y,)


def _strided(array: np.ndarray, shape: tuple[int, ...], strides: Sequence[int]) -> np.ndarray:
    steps = [array.itemsize * s for s in strides]
    return np.lib.stride_tricks.as_strided(array, shape, steps)

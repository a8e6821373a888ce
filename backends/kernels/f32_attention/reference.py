"""Meaning of fused attention, in numpy over the kernel's own operands."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tilewright.backends.kernels.f32_attention.spec import AttentionSpec


def run(
    spec: AttentionSpec, args: Sequence[np.ndarray], dims: tuple[int, ...]
) -> tuple[np.ndarray, ...]:
    """Y in float64, dense: [batch, heads, seq_q, value_dim], or with heads and sequence swapped
    where Y's head stride is the smaller one."""
    q, k, v = operands(spec, args, dims)
    scores = masked(spec, spec.scale * (q @ k.swapaxes(-1, -2)), args, dims)
    return ordered(attend(scores, v, spec.masked_zero), dims)


def operands(
    spec: AttentionSpec, args: Sequence[np.ndarray], dims: tuple[int, ...]
) -> tuple[np.ndarray, ...]:
    """Q, K and V in float64 as [batch, heads, sequence, size], K and V once for each head of Q."""
    batch, heads, seq_q, seq_k, group = dims[:5]
    strides = [dims[6 + 3 * i : 9 + 3 * i] for i in range(3)]
    shapes = [
        (batch, heads, seq_q, spec.head_dim),
        (batch, heads // group, seq_k, spec.head_dim),
        (batch, heads // group, seq_k, spec.value_dim),
    ]
    q, k, v = (
        np.lib.stride_tricks.as_strided(a, shape, [a.itemsize * s for s in (*stride, 1)]).astype(
            np.float64
        )
        for a, shape, stride in zip(args[:3], shapes, strides, strict=True)
    )
    return q, np.repeat(k, group, axis=1), np.repeat(v, group, axis=1)


def masked(
    spec: AttentionSpec, scores: np.ndarray, args: Sequence[np.ndarray], dims: tuple[int, ...]
) -> np.ndarray:
    """Scores with the mask added and hidden keys at -inf."""
    seq_q, seq_k, _, offset = dims[2:6]
    if spec.mask is not None:
        size = args[3].itemsize
        mask = np.lib.stride_tricks.as_strided(
            args[3], scores.shape, [size * s for s in dims[18:22]]
        )
        scores = scores + mask if spec.mask == "f32" else np.where(mask != 0, scores, -np.inf)
    if spec.causal:
        visible = np.arange(seq_k) <= np.arange(seq_q)[:, None] + offset
        scores = np.where(visible, scores, -np.inf)
    return scores


def attend(scores: np.ndarray, v: np.ndarray, masked_zero: bool) -> np.ndarray:
    """softmax(scores) V over the last axis; rows of -inf give NaN, or 0 with ``masked_zero``."""
    if scores.shape[-1] == 0:
        return np.zeros((*scores.shape[:-1], v.shape[-1]))
    with np.errstate(all="ignore"):
        highest = scores.max(-1, keepdims=True)
        weights = np.exp(scores - highest)
        weights = weights / weights.sum(-1, keepdims=True)
        if masked_zero:
            weights = np.where(np.isneginf(highest), 0, weights)
        y: np.ndarray = weights @ v
    return y


def ordered(y: np.ndarray, dims: tuple[int, ...]) -> tuple[np.ndarray, ...]:
    """``y`` in the order in which the kernel stores it."""
    swapped = dims[16] < dims[17] and dims[2] > 0
    return (y.swapaxes(1, 2) if swapped else y,)

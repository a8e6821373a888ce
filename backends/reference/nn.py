"""Softmax, normalizations, rotary embedding and attention by their definitions, in float64."""

from collections.abc import Callable

import numpy as np

from tilewright.backends.reference.interpreter import Array, Context, reference
from tilewright.compiler.ir.ops import nn
from tilewright.compiler.ir.ops.caches import CachedAttention


def softmax_f64(x: Array, axis: int) -> Array:
    """exp(x - max x) / sum of the same, in float64."""
    if x.shape[axis] == 0:
        return x
    weights = np.exp(x - np.max(x, axis, keepdims=True))
    return np.asarray(weights / np.sum(weights, axis, keepdims=True))


@reference(nn.Softmax)
def _softmax(op: nn.Softmax, at: Context, x: Array) -> Array:
    wide = x.astype(np.float64)
    if not op.log or x.size == 0:
        return at.rounded(softmax_f64(wide, op.axis), op.x.dtype)
    shifted = wide - np.max(wide, op.axis, keepdims=True)
    out = shifted - np.log(np.sum(np.exp(shifted), op.axis, keepdims=True))
    return at.rounded(out, op.x.dtype)


@reference(nn.LayerNorm)
def _layer_norm(
    op: nn.LayerNorm, at: Context, x: Array, scale: Array | None, bias: Array | None
) -> Array:
    wide, axes = x.astype(np.float64), tuple(range(op.axis, x.ndim))
    centred = wide - np.mean(wide, axes, keepdims=True)
    out = centred / np.sqrt(np.mean(centred * centred, axes, keepdims=True) + op.eps)
    if scale is not None:
        out = out * scale.astype(np.float64)
    if bias is not None:
        out = out + bias.astype(np.float64)
    return at.rounded(out, op.x.dtype)


@reference(nn.RmsNorm)
def _rms_norm(op: nn.RmsNorm, at: Context, x: Array, scale: Array | None) -> Array:
    wide, axes = x.astype(np.float64), tuple(range(op.axis, x.ndim))
    out = wide / np.sqrt(np.mean(wide * wide, axes, keepdims=True) + op.eps)
    if scale is not None:
        out = out * scale.astype(np.float64)
    return at.rounded(out, op.x.dtype)


@reference(nn.Rope)
def _rope(op: nn.Rope, at: Context, x: Array, cos: Array, sin: Array) -> Array:
    a, b = np.split(x.astype(np.float64), 2, axis=-1)
    c, s = cos.astype(np.float64), sin.astype(np.float64)
    return at.rounded(np.concatenate([a * c - b * s, b * c + a * s], axis=-1), op.x.dtype)


@reference(nn.Attention)
def _attention(
    op: nn.Attention, at: Context, q: Array, k: Array, v: Array, mask: Array | None
) -> Array:
    return attend(op, at, q, k, v, mask)


def attend(
    op: nn.Attention | CachedAttention,
    at: Context,
    q: Array,
    k: Array,
    v: Array,
    mask: Array | None,
    read: Callable[[Array], Array] = np.asarray,
) -> Array:
    """Attention with the attributes of `op` over these keys and values. read: how the second
    product reads the weights of the softmax."""
    queries = _axes(q, op.q_axes, "bhqd")
    keys, values = _axes(k, op.k_axes, "bgkd"), _axes(v, op.v_axes, "bgke")
    repeat = queries.shape[1] // max(keys.shape[1], 1)
    keys, values = np.repeat(keys, repeat, 1), np.repeat(values, repeat, 1)
    scores = op.scale * (queries @ np.swapaxes(keys, -1, -2))
    if mask is not None and mask.dtype == bool:
        scores = np.where(mask, scores, -np.inf)
    elif mask is not None:
        scores = scores + mask.astype(np.float64)
    if op.causal:
        count, total = scores.shape[-2:]
        reach = total - count if op.causal_end else 0
        seen = np.arange(total)[None, :] <= np.arange(count)[:, None] + reach
        scores = np.where(seen, scores, -np.inf)
    weights = softmax_f64(scores, -1)
    if op.masked_zero:
        blind = np.all(np.isneginf(scores), -1, keepdims=True)
        weights = np.where(blind, 0.0, weights)
    out = read(weights) @ values
    return at.rounded(_axes(out, "bhqe", op.out_axes), op.q.dtype)


def _axes(x: Array, have: str, want: str) -> Array:
    return np.transpose(x.astype(np.float64), [have.index(c) for c in want])

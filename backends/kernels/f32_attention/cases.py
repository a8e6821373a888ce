"""Launches on which fused attention is tested."""

from __future__ import annotations

from typing import Any

import numpy as np

from tilewright.backends.kernels.f32_attention.spec import AttentionSpec
from tilewright.backends.kernels.family import Case


def cases() -> tuple[Case, ...]:
    """The launches of the generic family test."""
    return launches()


def launches(spread: float = 3) -> tuple[Case, ...]:
    """Launches on operands with standard deviation ``spread``; 3 makes weights differ a lot."""

    def case(*sizes: int, **details: Any) -> Case:
        return launch(*sizes, spread=spread, **details)

    return (
        case(1, 2, 5, 7, 8, 8),
        case(2, 3, 33, 40, 32, 32),
        case(1, 1, 128, 128, 64, 64),
        case(1, 2, 17, 300, 16, 48),
        case(1, 1, 1, 600, 64, 64),
        case(1, 1, 3, 0, 8, 8),
        case(2, 2, 1, 0, 8, 8),
        case(2, 4, 1, 37, 33, 70, group=2),
        case(1, 2, 1, 300, 16, 16, mask="f32", mask_axes="bk", causal=True, offset=270),
        case(2, 2, 1, 21, 5, 150, mask="i8", mask_axes="k", interleaved=True),
        case(1, 1, 0, 4, 8, 8),
        case(1, 2, 20, 19, 1, 1),
        case(1, 1, 9, 11, 33, 70),
        case(1, 4, 6, 10, 16, 16, group=2),
        case(1, 2, 40, 40, 16, 32, interleaved=True),
        case(1, 2, 40, 40, 16, 32, causal=True),
        case(1, 2, 5, 300, 16, 16, causal=True, offset=295),
        case(1, 1, 70, 530, 16, 16, causal=True, offset=3),
        case(2, 2, 35, 37, 24, 24, mask="f32", mask_axes="bk"),
        case(2, 2, 35, 37, 24, 24, mask="i8", mask_axes="bk"),
        case(2, 2, 35, 37, 24, 24, mask="f32", mask_axes="bhqk"),
        case(1, 2, 18, 290, 24, 24, mask="i8", mask_axes="qk", causal=True, offset=250),
        case(1, 2, 35, 40, 16, 16, special=True),
        case(1, 2, 1, 40, 16, 16, special=True),
        case(1, 1, 20, 20, 16, 16, mask="i8", mask_axes="qk", hide=True),
        case(1, 1, 20, 20, 16, 16, mask="i8", mask_axes="qk", hide=True, masked_zero=True),
        case(1, 1, 8, 8, 16, 16, causal=True, offset=-2, masked_zero=True),
    )


def shaped(m: int, n: int, k: int, spread: float = 3) -> tuple[Case, ...]:
    """``m`` queries, ``n`` keys of ``k``, values of another size; by turns of m plain, causal and
    with NaN and infinity, with a mask."""
    value_dim = 1 + 37 * k % 70
    if m % 3 == 0 and n > 4:
        return (launch(1, 2, m, n, k, value_dim, group=2, spread=spread, special=True),)
    if m % 3 == 1:
        offset = (n - m) * (k % 2)
        return (launch(1, 1, m, n, k, value_dim, causal=True, offset=offset, spread=spread),)
    mask, axes = (("f32", "qk"), ("i8", "bk"))[k % 2]
    return (
        launch(
            *(2, 1, m, n, k, value_dim),
            mask=mask,
            mask_axes=axes,
            interleaved=True,
            spread=spread,
        ),
    )


def _by_query(
    spec: AttentionSpec,
    q: np.ndarray,
    k: np.ndarray,
    v: np.ndarray,
    bias: np.ndarray,
    group: int,
    offset: int,
) -> np.ndarray:
    """Attention one query at a time, from its definition."""
    batch, heads, seq_q, _ = q.shape
    y = np.zeros((batch, heads, seq_q, spec.value_dim))
    for b, h, i in np.ndindex(batch, heads, seq_q):
        last = k.shape[2] if not spec.causal else max(0, min(k.shape[2], i + offset + 1))
        keys = k[b, h // group, :last].astype(np.float64)
        scores = spec.scale * keys @ q[b, h, i].astype(np.float64) + bias[b, h, i, :last]
        weights = np.exp(scores[np.isfinite(scores)] - max(scores, default=0))
        if weights.size:
            y[b, h, i] = weights @ v[b, h // group, :last][np.isfinite(scores)] / weights.sum()
        elif k.shape[2] and not spec.masked_zero:
            y[b, h, i] = np.nan
    return y


def _keep_weight(q: np.ndarray, k: np.ndarray, key: int, scale: float) -> None:
    """Make queries [heads, seq_q, dim] smaller until ``key`` of [seq_k, dim] has a weight in f32,
    at least exp(-60): one that underflows would make NaN of its infinite value."""
    with np.errstate(invalid="ignore"):
        scores = scale * (q.astype(np.float64) @ k.astype(np.float64).T)
        gap = scores.max(-1) - scores[..., key]
        q *= (60 / np.maximum(gap, 60)).astype(np.float32)[..., None]


def launch(
    batch: int,
    heads: int,
    seq_q: int,
    seq_k: int,
    dim: int,
    value_dim: int,
    *,
    group: int = 1,
    interleaved: bool = False,
    mask: str | None = None,
    mask_axes: str = "",
    hide: bool = False,
    causal: bool = False,
    offset: int = 0,
    masked_zero: bool = False,
    spread: float = 3,
    special: bool = False,
) -> Case:
    """Attention on random operands [batch, heads, sequence, size], sequence and heads swapped in
    memory if ``interleaved``.

    ``group``: heads for each of K and V. ``mask_axes``: those of b, h, q, k that the mask has;
    ``hide``: it hides every key of one row. ``offset``: of a causal one. ``special``: NaN, infinity
    and subnormal numbers among the operands.
    """
    rng = np.random.default_rng([batch, heads, seq_q, seq_k, dim])
    spec = AttentionSpec(dim, value_dim, dim**-0.5, mask, causal, masked_zero)
    kv_heads = heads // group

    def operand(n_heads: int, seq: int, width: int) -> tuple[np.ndarray, tuple[int, ...]]:
        if interleaved:
            data = rng.standard_normal((batch, seq, n_heads, width))
            strides = (seq * n_heads * width, width, n_heads * width)
        else:
            data = rng.standard_normal((batch, n_heads, seq, width))
            strides = (n_heads * seq * width, seq * width, width)
        return (spread * data).astype(np.float32), strides

    q, q_strides = operand(heads, seq_q, dim)
    k, k_strides = operand(kv_heads, seq_k, dim)
    v, v_strides = operand(kv_heads, seq_k, value_dim)
    y, y_strides = operand(heads, seq_q, value_dim)
    if special:
        # A query of NaN; values that reach every output of theirs.
        q[0, 0, -1], v[0, 0, 1, 0], v[0, 0, 2, 1 % value_dim] = np.nan, np.inf, np.nan
        k[0, 0, 3], v[0, 0, 4] = 1e-42, -1e-42
        _keep_weight(q[0, :group], k[0, 0], 1, spec.scale)
    args = [q, k, v]
    dims: tuple[int, ...] = (batch, heads, seq_q, seq_k, group, offset)
    dims += (*q_strides, *k_strides, *v_strides, *y_strides)
    if mask is not None:
        sizes = {"b": batch, "h": heads, "q": seq_q, "k": seq_k}
        shape = tuple(sizes[a] for a in mask_axes)
        values = rng.standard_normal(shape)
        if mask == "f32":
            data = np.where(values > 1, -np.inf, values).astype(np.float32)
        else:
            data = (values > -0.5).astype(np.int8)
        if hide:
            data[3] = 0
        dense = dict(zip(mask_axes, np.array(data.strides) // data.itemsize, strict=True))
        args.append(data)
        dims += tuple(int(dense.get(a, 0)) for a in "bhqk")

    def swap(x: np.ndarray) -> np.ndarray:
        return x.swapaxes(1, 2) if interleaved else x

    bias = np.zeros((batch, heads, seq_q, seq_k))
    if mask is not None:
        whole = data.reshape([sizes[a] if a in mask_axes else 1 for a in "bhqk"])
        bias = bias + (whole if mask == "f32" else np.where(whole, 0, -np.inf))
    expected = swap(_by_query(spec, swap(q), swap(k), swap(v), bias, group, offset))
    named = (("c", causal), (mask or "", mask), ("z", masked_zero), ("s", special))
    flags = "".join(f for f, on in named if on)
    return Case(
        label=f"{batch}x{heads}/{group}x{seq_q}x{seq_k}x{dim}x{value_dim}{flags}{mask_axes}",
        spec=spec,
        args=tuple(args),
        results=(np.zeros(y.shape, np.float32),),
        dims=dims,
        expected=(expected,),
        rtol=3e-5,
        atol=3e-5,
    )

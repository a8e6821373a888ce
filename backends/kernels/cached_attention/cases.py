"""Launches on which attention over caches in codes is tested."""

from __future__ import annotations

import numpy as np

from tilewright.backends.kernels.cached_attention.spec import CachedAttentionSpec
from tilewright.backends.kernels.family import Case

BOTH = ("int8", "int4")


def cases() -> tuple[Case, ...]:
    """The launches of the generic family test."""
    return (
        *(_case(name, 1, 3, 1, 300, 64, 64, group=3) for name in BOTH),
        _case("int4", 2, 2, 1, 37, 128, 96),
        *(_case(name, 1, 6, 1, 530, 16, 80, group=6) for name in BOTH),
        *(_case(name, 2, 10, 1, 21, 40, 8, group=5, interleaved=True) for name in BOTH),
        _case("int4", 1, 2, 9, 40, 24, 56),
        *(_case(name, 1, 4, 17, 290, 64, 64, group=2, interleaved=True) for name in BOTH),
        *(_case(name, 1, 3, 5, 300, 32, 32, group=3, causal=True, offset=295) for name in BOTH),
        _case("int8", 1, 1, 20, 20, 48, 16, causal=True),
        _case("int8", 1, 2, 1, 60, 1, 1),
        _case("int8", 1, 2, 3, 61, 33, 70, group=2),
        _case("int8", 1, 2, 1, 300, 16, 16, mask="f32", mask_axes="bk", causal=True, offset=270),
        _case("int4", 2, 2, 1, 21, 8, 136, mask="i8", mask_axes="k", interleaved=True),
        _case("int4", 2, 4, 11, 37, 24, 24, group=2, mask="f32", mask_axes="bhqk"),
        _case("int8", 2, 2, 11, 37, 24, 24, mask="i8", mask_axes="qk"),
        *(_case(name, 1, 2, 7, 40, 16, 16, special=True) for name in BOTH),
        *(_case(name, 1, 3, 1, 40, 16, 16, group=3, special=True) for name in BOTH),
        _case("int4", 1, 1, 9, 20, 16, 16, mask="i8", mask_axes="qk", hide=True),
        _case("int4", 1, 1, 9, 20, 16, 16, mask="i8", mask_axes="qk", hide=True, masked_zero=True),
        _case("int8", 1, 1, 8, 8, 16, 16, causal=True, offset=-2, masked_zero=True),
        *(_case(name, 2, 2, 1, 0, 8, 8) for name in BOTH),
        _case("int8", 1, 2, 0, 4, 8, 8),
    )


def shaped(m: int, n: int, k: int) -> tuple[Case, ...]:
    """``m`` queries, ``n`` keys of ``k`` elements in int8, of 8 in int4; by turns of m plain,
    causal and with a mask."""
    if m % 3 == 0:
        return (
            _case("int8", 1, 2, m, n, k, 1 + 37 * k % 70, group=2, special=n > 4),
            _case("int4", 1, 5, 1, n, 8 + 8 * (k % 9), 8 + 8 * (m % 5), group=5),
        )
    if m % 3 == 1:
        offset = (n - m) * (k % 2)
        return (
            _case("int8", 1, 1, m, n, k, k, causal=True, offset=offset),
            _case("int4", 1, 1, m, n, 8, 8, causal=True, offset=offset),
        )
    mask, axes = (("f32", "qk"), ("i8", "bk"))[k % 2]
    return (_case("int8", 2, 1, m, n, k, 3, mask=mask, mask_axes=axes, interleaved=True),)


def _rows(spec: CachedAttentionSpec, codes: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """What rows stand for, by the matrix of the rotation: f64 [.., size]."""
    wide = scales[..., None].astype(np.float64)
    if spec.format == "int8":
        rows: np.ndarray = codes * wide
        return rows
    levels = np.concatenate([codes % 16, codes // 16], -1) - 7.5
    size = levels.shape[-1]
    block = size & -size
    matrix = np.ones((1, 1))
    while len(matrix) < block:
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    turned = (levels.reshape(-1, block) @ matrix / np.sqrt(block)).reshape(levels.shape)
    rows = turned * wide
    return rows


def _by_query(
    spec: CachedAttentionSpec,
    q: np.ndarray,
    k: np.ndarray,
    v: np.ndarray,
    bias: np.ndarray,
    offset: int,
) -> np.ndarray:
    """Attention one query at a time, from its definition."""
    batch, heads, seq_q, _ = q.shape
    y = np.zeros((batch, heads, seq_q, v.shape[-1]))
    for b, h, i in np.ndindex(batch, heads, seq_q):
        last = k.shape[2] if not spec.causal else max(0, min(k.shape[2], i + offset + 1))
        keys, values = k[b, h // spec.group, :last], v[b, h // spec.group, :last]
        scores = spec.scale * keys @ q[b, h, i].astype(np.float64) + bias[b, h, i, :last]
        if np.isnan(scores).any():
            y[b, h, i] = np.nan
            continue
        weights = np.exp(scores[np.isfinite(scores)] - max(scores, default=0))
        if weights.size:
            y[b, h, i] = weights @ values[np.isfinite(scores)] / weights.sum()
        elif k.shape[2] and not spec.masked_zero:
            y[b, h, i] = np.nan
    return y


def _case(
    name: str,
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
    special: bool = False,
) -> Case:
    rng = np.random.default_rng([batch, heads, seq_q, seq_k, dim])
    spec = CachedAttentionSpec(dim, value_dim, dim**-0.5, name, group, mask, causal, masked_zero)

    def order(shape: tuple[int, ...]) -> tuple[int, ...]:
        return (shape[0], shape[2], shape[1], *shape[3:]) if interleaved else shape

    def swap(x: np.ndarray) -> np.ndarray:
        return x.swapaxes(1, 2) if interleaved else x

    def steps(shape: tuple[int, ...]) -> tuple[int, int, int]:
        """Of batch, head and sequence."""
        row = shape[3]
        if interleaved:
            return (shape[1] * shape[2] * row, row, shape[1] * row)
        return (shape[1] * shape[2] * row, shape[2] * row, row)

    q_shape, y_shape = (batch, heads, seq_q, dim), (batch, heads, seq_q, value_dim)
    q = (2 * rng.standard_normal(order(q_shape))).astype(np.float32)
    args: list[np.ndarray] = [q]
    dims: list[int] = [*steps(q_shape)]
    read: list[np.ndarray] = []
    for size in (dim, value_dim):
        width = spec.made.width(size)
        shape = (batch, heads // group, seq_k, width)
        if name == "int8":
            codes = rng.integers(-127, 128, order(shape)).astype(np.int8)
        else:
            codes = rng.integers(0, 256, order(shape)).astype(np.uint8)
        scales = rng.uniform(0.2, 2.0, shape[:3]).astype(np.float32)
        scales *= np.float32(2 / spec.made.levels)
        if special:
            scales[0, 0, 0], scales[0, 0, 1] = 1e-42, 0.0
            if size == value_dim and seq_q > 1:
                scales[0, 0, 2] = np.nan
        args += [codes, scales]
        dims += [*steps(shape), shape[1] * seq_k, seq_k]
        read.append(_rows(spec, swap(codes).astype(np.float64), scales))
    if special:
        q.reshape(-1)[-1] = np.nan
    dims += steps(y_shape)
    bias = np.zeros((batch, heads, seq_q, seq_k))
    if mask is not None:
        sizes = {"b": batch, "h": heads, "q": seq_q, "k": seq_k}
        values = rng.standard_normal(tuple(sizes[a] for a in mask_axes))
        if mask == "f32":
            data = np.where(values > 1, -np.inf, values).astype(np.float32)
        else:
            data = (values > -0.5).astype(np.int8)
        if hide:
            data[3] = 0
        dense = dict(zip(mask_axes, np.array(data.strides) // data.itemsize, strict=True))
        args.append(data)
        dims += [int(dense.get(a, 0)) for a in "bhqk"]
        whole = data.reshape([sizes[a] if a in mask_axes else 1 for a in "bhqk"])
        with np.errstate(divide="ignore"):
            bias = bias + (whole if mask == "f32" else np.log(np.where(whole, 1.0, 0.0)))
    expected = swap(_by_query(spec, swap(q), read[0], read[1], bias, offset))
    flags = "".join(
        flag for flag, on in (("c", causal), (mask or "", mask), ("z", masked_zero), ("s", special))
        if on
    )  # fmt: skip
    return Case(
        label=f"{name}-{batch}x{heads}/{group}x{seq_q}x{seq_k}x{dim}x{value_dim}{flags}{mask_axes}",
        spec=spec,
        args=tuple(args),
        results=(np.zeros(order(y_shape), np.float32),),
        dims=(batch, heads, seq_q, seq_k, offset, *dims),
        expected=(expected,),
        rtol=3e-5,
        atol=3e-5,
    )

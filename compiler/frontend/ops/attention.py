"""Scaled-dot-product attention and rotary position embeddings."""

import math
from dataclasses import dataclass

from tilewright.compiler.frontend.context import Import
from tilewright.compiler.frontend.node import Node
from tilewright.compiler.frontend.registry import onnx_op
from tilewright.compiler.frontend.tensors import element_type
from tilewright.compiler.frontend.terms import Term, concat, iota, size_of
from tilewright.compiler.ir.core import Value
from tilewright.compiler.ir.dims import Dim
from tilewright.compiler.ir.ops import nn, unary
from tilewright.compiler.ir.types import DType


@dataclass(frozen=True)
class _Heads:
    """A query, key or value tensor with its heads split; `axes` says where they are."""

    term: Term
    axes: str

    def size(self, axis: str) -> Dim:
        return self.term.dims[self.axes.index(axis)]

    def ordered(self, axes: str) -> Term:
        """The tensor with its axes in another order."""
        return self.term.transpose(*(self.axes.index(a) for a in axes))


def _split(ctx: Import, node: Node, value: Value, heads: str, axes: str) -> _Heads:
    """[B, heads, length, size], or [B, length, heads * size] with the heads split."""
    if value.rank == 4:
        return _Heads(Term(ctx, value), axes)
    count = node.attr(heads, 0)
    if value.rank != 3 or not count:
        ctx.fail(node, f"{heads} is needed with tensors of rank 3, found {value.type}")
    dims = (value.shape[0], value.shape[1], count, value.shape[2] // count)
    return _Heads(Term(ctx, value).reshape(*dims), axes[0] + axes[2] + axes[1] + axes[3])


def _extended(ctx: Import, new: _Heads, past: Value | None, axes: str) -> _Heads:
    """The cache followed by the new entries: [B, heads, past + length, size]."""
    if past is None:
        return new
    moved = new.ordered(axes)
    batch, heads, _, size = moved.dims
    cache = ctx.relabel(past, (batch, heads, past.shape[2], size), "the cache and the new entries")
    return _Heads(concat([Term(ctx, cache), moved], 2), axes)


@onnx_op("Attention")
def attention(ctx: Import, node: Node) -> tuple[Value | None, ...]:
    """Y, and when asked for the present key and value and the scores at a chosen stage.

    Without soft capping or scores it becomes the `attention` operation, else its definition.
    """
    q = _split(ctx, node, node.input(0), "q_num_heads", "bhqd")
    past_key, past_value = node.maybe(4), node.maybe(5)
    k = _extended(ctx, _split(ctx, node, node.input(1), "kv_num_heads", "bgkd"), past_key, "bgkd")
    v = _extended(ctx, _split(ctx, node, node.input(2), "kv_num_heads", "bgke"), past_value, "bgke")
    k, v = _matched(ctx, q, k, v)
    size = q.size("d")
    scale = node.attr("scale", None)
    if scale is None and isinstance(size, int):
        scale = 1.0 / math.sqrt(size)
    elif scale is None:  # the factor goes into the queries
        root = size_of(ctx, size, DType.F64).sqrt()
        q, scale = _Heads(q.term * (1.0 / root).cast(q.term.dtype), q.axes), 1.0
    past = past_key.shape[2] if past_key is not None else 0
    causal, mask = _mask(ctx, node, q, k, past)
    packed = node.input(0).rank == 3
    softcap = float(node.attr("softcap", 0.0))
    scores: Term | None = None
    if softcap or node.wants(3) or _low_precision(node, q.term.dtype):
        mask = _with_causal(ctx, mask, q, k, past) if causal else mask
        out, scores = _spelled_out(node, (q, k, v), mask, float(scale), softcap)
        out = out.transpose(0, 2, 1, 3) if packed else out
    else:
        out = q.term.emit(
            nn.Attention,
            q=q.term.value,
            k=k.term.value,
            v=v.term.value,
            mask=None if mask is None else mask.value,
            scale=float(scale),
            causal=causal,
            causal_end=causal and past_key is not None,
            masked_zero=True,
            q_axes=q.axes,
            k_axes=k.axes,
            v_axes=v.axes,
            out_axes="bqhe" if packed else "bhqe",
        )
    if packed:
        out = out.reshape(out.dims[0], out.dims[1], out.dims[2] * out.dims[3])
    results: list[Value | None] = [out.value]
    results.append(k.ordered("bgkd").value if node.wants(1) else None)
    results.append(v.ordered("bgke").value if node.wants(2) else None)
    results.append(None if scores is None else scores.value)
    return tuple(results[: node.n_outputs])


def _matched(ctx: Import, q: _Heads, k: _Heads, v: _Heads) -> tuple[_Heads, _Heads]:
    """Keys and values with the sizes that they share with the queries and each other unified."""
    sizes = {"b": q.size("b"), "d": q.size("d"), "g": k.size("g"), "k": k.size("k")}
    out = []
    for part in (k, v):
        dims = [sizes.get(a, d) for a, d in zip(part.axes, part.term.dims, strict=True)]
        value = ctx.relabel(part.term.value, dims, "the sizes of query, key and value")
        out.append(_Heads(Term(ctx, value), part.axes))
    return out[0], out[1]


def _low_precision(node: Node, dtype: DType) -> bool:
    """Whether the softmax is to be rounded to a type narrower than the operation uses."""
    number = node.attr("softmax_precision", 0)
    return bool(number) and element_type(number, node.where).bits < 32 <= dtype.bits


def _places(
    ctx: Import, q: _Heads, k: _Heads, past: Dim, offset: Term | None = None
) -> tuple[Term, Term]:
    """The absolute position of every query, [.., q, 1], and of every key, [k].

    The first query is at `offset`, or after `past` keys.
    """
    rows = iota(ctx, q.size("q")).reshape(q.size("q"), 1)
    if offset is not None:
        rows = rows + offset
    elif past != 0:
        rows = rows + size_of(ctx, past)
    return rows, iota(ctx, k.size("k"))


def _mask(ctx: Import, node: Node, q: _Heads, k: _Heads, past: Dim) -> tuple[bool, Term | None]:
    """Whether the operation's own causal mask serves, and the mask of everything else."""
    lengths = node.maybe(6)
    given = node.maybe(3)
    mask = None if given is None else _padded(Term(ctx, given), k.size("k"))
    causal = bool(node.attr("is_causal", 0))
    plain = causal and lengths is None and (past == 0 or k.size("k") - q.size("q") == past)
    left, right = node.attr("left_window_size", -1), node.attr("right_window_size", -1)
    offset = None
    if lengths is not None:
        valid = Term(ctx, lengths).cast(DType.I64).reshape(lengths.shape[0], 1, 1, 1)
        offset = valid - size_of(ctx, q.size("q"))
        mask = _both(mask, iota(ctx, k.size("k")) < valid)
    if causal and not plain:
        row, column = _places(ctx, q, k, past, offset)
        mask = _both(mask, column <= row)
    if left >= 0 or right >= 0:
        row, column = _places(ctx, q, k, past, offset)
        if left >= 0:
            mask = _both(mask, row - column <= left)
        if right >= 0:
            mask = _both(mask, column - row <= right)
    return plain, mask


def _with_causal(ctx: Import, mask: Term | None, q: _Heads, k: _Heads, past: Dim) -> Term:
    row, column = _places(ctx, q, k, past)
    return _both(mask, column <= row)


def _padded(mask: Term, keys: Dim) -> Term:
    """A mask that is shorter than the keys hides the rest."""
    short = mask.dims[-1]
    if short == keys or short == 1:
        return mask
    room = keys - short
    if isinstance(room, int) and room > 0:
        low, high = [0] * mask.rank, [*[0] * (mask.rank - 1), room]
        hidden = False if mask.dtype == DType.BOOL else float("-inf")
        return mask.pad(low, high, hidden)
    mask.ctx.unify(short, keys, "the last dimension of attn_mask and the number of keys")
    return Term(mask.ctx, mask.ctx.relabel(mask.value, (*mask.dims[:-1], keys), "attn_mask"))


def _both(mask: Term | None, allowed: Term) -> Term:
    """`mask` (bool, or float to add) and also only where `allowed`."""
    if mask is None:
        return allowed
    if mask.dtype == DType.BOOL:
        return mask & allowed
    return allowed.where(mask, float("-inf"), mask.dtype)


def _spelled_out(
    node: Node, heads: tuple[_Heads, _Heads, _Heads], mask: Term | None, scale: float, cap: float
) -> tuple[Term, Term]:
    """The definition: the result [B, h, q, e] and the scores [B, h, q, k] of the wanted stage."""
    q, k, v = (
        part.ordered(axes) for part, axes in zip(heads, ("bhqd", "bgkd", "bgke"), strict=True)
    )
    batch, count, length, size = q.dims
    groups = k.dims[1]
    dtype = q.dtype
    split = q.reshape(batch, groups, count // groups, length, size)
    root = math.sqrt(scale)
    scores = (split * root).contract("bgrqd,bgkd->bgrqk", k * root)
    scores = scores.reshape(batch, count, length, k.dims[2])
    stages = [scores]
    if cap:
        scores = (scores / cap).apply(unary.Tanh) * cap
    stages.append(scores)
    if mask is not None:
        if mask.dtype == DType.BOOL:
            scores = mask.where(scores, float("-inf"), dtype)
            seen = mask.reduce("any", [-1])
        else:
            scores = scores + mask
            seen = mask.max([-1]) > float("-inf")
    stages.append(scores)
    number = node.attr("softmax_precision", 0)
    wide = scores.cast(element_type(number, node.where)) if number else scores
    weights = wide.softmax(-1)
    if mask is not None:
        weights = seen.where(weights, 0.0, weights.dtype)
    weights = weights.cast(dtype)
    stages.append(weights)
    shares = weights.reshape(batch, groups, count // groups, length, k.dims[2])
    out = shares.contract("bgrqk,bgke->bgrqe", v).reshape(batch, count, length, v.dims[3])
    return out, stages[node.attr("qk_matmul_output_mode", 0)]


@onnx_op("RotaryEmbedding")
def rotary_embedding(ctx: Import, node: Node) -> Value:
    """x: [B, heads, S, size] or [B, S, heads * size], rotated by position.

    cos and sin: [positions, rotated / 2] looked up by position_ids [B, S], or [B, S, rotated / 2].
    """
    x, ids = Term(ctx, node.input(0)), node.maybe(3)
    tables = [Term(ctx, node.input(i)) for i in (1, 2)]
    packed = x.rank == 3
    original = x.dims
    if packed:
        heads = node.attr("num_heads", 0)
        if not heads:
            ctx.fail(node, f"num_heads is needed with x of rank 3, found {x.value.type}")
        x = x.reshape(x.dims[0], x.dims[1], heads, x.dims[2] // heads)
    if ids is not None:
        tables = [t.gather(ids, 0) for t in tables]
    cos, sin = (t.unsqueeze(2 if packed else 1) for t in tables)
    size = x.dims[3]
    rotated = node.attr("rotary_embedding_dim", 0) or size
    part = x.slice(3, 0, rotated)
    if node.attr("interleaved", 0):
        out = _rotated_pairs(part, cos, sin, rotated // 2)
    else:
        out = part.apply(nn.Rope, cos=cos.value, sin=sin.value)
    if rotated != size:
        out = concat([out, x.slice(3, rotated, size - rotated)], 3)
    return out.reshape(*original).value


def _rotated_pairs(x: Term, cos: Term, sin: Term, half: Dim) -> Term:
    """Neighbouring elements (a, b) become (a cos - b sin, a sin + b cos)."""
    pairs = x.reshape(*x.dims[:3], half, 2)
    a, b = (pairs.slice(4, i, 1).squeeze(4) for i in range(2))
    turned = [a * cos - b * sin, a * sin + b * cos]
    return concat([t.unsqueeze(4) for t in turned], 4).reshape(*x.dims)

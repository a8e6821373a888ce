"""Values of attention heads: as many numbers as a head's output is made of in the next product.

    v = reshape(x Wv + bv) [keys, groups, e];  y = reshape(attention(q, k, v)) [queries, heads e] Wo

Attention weighs rows of v, so that any matrix P [e, e'] of a group may move from Wo into Wv: with
Wv P and P^T Wo nothing changes for orthogonal P, and with the directions of greatest energy in y
the least does for fewer columns (the value and output step of MoDeGPT, arXiv 2408.09632, for all
heads that share values together). Wo is then fitted again by least squares.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from tilewright.compiler.formats.truncation import truncated
from tilewright.compiler.ir.core import Graph, Op, Value, users
from tilewright.compiler.ir.dims import as_int
from tilewright.compiler.ir.ops.binary import Add
from tilewright.compiler.ir.ops.contraction import Contract
from tilewright.compiler.ir.ops.leaf import Constant
from tilewright.compiler.ir.ops.nn import Attention
from tilewright.compiler.ir.ops.shape import Reshape
from tilewright.compiler.ir.rewrite import Builder, Replacement, rewrite
from tilewright.passes.remove_dead_code import remove_dead_code
from tilewright.passes.shrinking.elimination import DAMP
from tilewright.passes.shrinking.rungs import stored_as
from tilewright.passes.structure.channels import (
    channel_axis,
    fields_of,
    made_by,
    operand,
    summed,
    weight_of,
)


@dataclass(frozen=True, eq=False)
class Heads:
    """The values of one attention.

    made: the product that makes them; bias: what adds a constant to it. reader: the product that
    reads the results of all heads. heads read groups of values of `size` numbers.
    """

    made: Contract
    bias: Add | None
    attention: Attention
    reader: Contract
    heads: int
    groups: int
    size: int


def value_heads(graph: Graph) -> list[Heads]:
    """Of every attention whose values a product alone makes and whose results a product alone
    reads, in order of execution."""
    used, outputs = users(graph.ops), set(graph.outputs)

    def alone(value: Value) -> bool:
        return value not in outputs and len(used[value]) == 1

    found = []
    for op in graph.ops:
        if isinstance(op, Attention) and (made := _heads(op, used)) is not None:
            between = [made.made.out, op.v, op.out, made.reader.a]
            between += [made.bias.out] if made.bias is not None else []
            if all(map(alone, between)):
                found.append(made)
    return found


def _heads(op: Attention, used: dict[Value, list[Op]]) -> Heads | None:
    split, last = op.v.op, op.out.rank - 1
    merge = next(iter(used.get(op.out, [])), None)
    if not isinstance(split, Reshape) or not isinstance(merge, Reshape):
        return None
    if op.v_axes[2:] != "ge" or op.out_axes[2:] != "he":
        return None
    groups, heads, size = op.v.shape[2], op.out.shape[2], op.v.shape[last]
    reader = next(iter(used.get(merge.out, [])), None)
    made, bias = split.x.op, None
    if isinstance(made, Add):
        bias = made
        made = next((v.op for v in (bias.a, bias.b) if not isinstance(v.op, Constant)), None)
        if not any(isinstance(v.op, Constant) and v.rank == 1 for v in (bias.a, bias.b)):
            return None
    if not isinstance(made, Contract) or not isinstance(reader, Contract):
        return None
    if not isinstance(groups, int) or not isinstance(heads, int) or not isinstance(size, int):
        return None
    # Nothing but the last axis is split and merged.
    if split.x.shape != (*op.v.shape[:2], groups * size):
        return None
    if merge.out.shape != (*op.out.shape[:2], heads * size):
        return None
    if operand(made) is None or operand(reader) is not merge.out or merge.out in reader.extras:
        return None
    axis = made_by(made, -1)
    if channel_axis(reader) != -1 or axis is None or made.b.shape[axis] != groups * size:
        return None
    if any(len(used[b]) != 1 for b in (made.b, reader.b)):
        return None
    return Heads(made, bias, op, reader, heads, groups, size)


@dataclass(frozen=True, eq=False)
class Bases:
    """Fewer numbers a head. values: P of every group, f64 [groups, size, kept], of orthonormal
    columns. weights: of the reader, f32 [heads x kept, N]."""

    values: np.ndarray
    weights: np.ndarray


def bases(heads: Heads, w: np.ndarray, gram: np.ndarray, kept: int) -> Bases:
    """Those of least error in X W. w: the reader's, f32 [heads x size, N]; gram: X^T X."""
    h, g, e, n = heads.heads, heads.groups, heads.size, w.shape[1]
    wide = w.astype(np.float64)
    own = np.einsum("hahb->hab", gram.reshape(h, e, h, e)).reshape(g, h // g, e, e).sum(axis=1)
    beside = wide.reshape(g, h // g, e, n).transpose(0, 2, 1, 3).reshape(g, e, -1)
    found = np.stack([np.linalg.qr(truncated(beside[i], kept, own[i]).left)[0] for i in range(g)])
    turn = np.zeros((h, e, h, kept))
    for i in range(h):
        turn[i, :, i] = found[i * g // h]
    whole = turn.reshape(h * e, h * kept)
    seen = gram @ whole
    small = whole.T @ seen
    damp = DAMP * (np.trace(small) / len(small) or 1.0) * np.eye(len(small))
    start = whole.T @ wide
    fitted = start + np.linalg.solve(small + damp, seen.T @ (wide - whole @ start))
    return Bases(found, fitted.astype(np.float32))


def with_bases(graph: Graph, chosen: Mapping[Heads, Bases]) -> Graph:
    """`graph` with fewer numbers in the values of some attentions."""
    by_reader = {heads.reader: (heads, found) for heads, found in chosen.items()}

    def rule(op: Op, builder: Builder) -> Replacement:
        original = builder.original
        if not isinstance(op, Contract) or original not in by_reader:
            return None
        heads, found = by_reader[original]
        kept = found.values.shape[2]
        merge = op.a.op
        assert isinstance(merge, Reshape)
        attention = merge.x.op
        assert isinstance(attention, Attention)
        split = attention.v.op
        assert isinstance(split, Reshape)
        v = _values(split.x, heads, found.values, builder)
        v = builder.emit(Reshape, x=v, shape=(*split.shape[:-1], kept), source=split.source)
        out = builder.emit(Attention, **{**fields_of(attention), "v": v})
        shape = (*merge.shape[:-1], heads.heads * kept)
        a = builder.emit(Reshape, x=out, shape=shape, source=merge.source)
        axis = summed(op)
        others = [as_int(s) for i, s in enumerate(op.b.shape) if i != axis]
        array = np.moveaxis(found.weights.reshape(-1, *others), 0, axis)
        b = builder.constant(
            stored_as(array, graph.weights[weight_of(op)]), f"{weight_of(op)}.shrunk"
        )
        return (builder.emit(Contract, **{**fields_of(op), "a": a, "b": b}),)

    return remove_dead_code(rewrite(graph, rule))


def _values(value: Value, heads: Heads, turn: np.ndarray, builder: Builder) -> Value:
    """What makes the values, with fewer columns."""
    op = value.op
    if isinstance(op, Add):
        parts = {}
        for name in ("a", "b"):
            part: Value = getattr(op, name)
            array = builder.array(part)
            if array is None:
                parts[name] = _values(part, heads, turn, builder)
            else:
                added = array.reshape(heads.groups, heads.size).astype(np.float64)
                found = np.einsum("ge,gek->gk", added, turn).reshape(-1)
                parts[name] = builder.constant(found.astype(np.float32), "values")
        return builder.emit(Add, **parts, source=op.source)
    assert isinstance(op, Contract)
    array = builder.array(op.b)
    assert array is not None
    at = made_by(heads.made, -1)
    assert at is not None
    wide = np.moveaxis(array.astype(np.float64), at, -1)
    before = builder.weights[weight_of(op)]
    split = wide.reshape(*wide.shape[:-1], heads.groups, heads.size)
    found = np.einsum("...ge,gek->...gk", split, turn)
    made = np.moveaxis(found.reshape(*found.shape[:-2], -1), -1, at)
    b = builder.constant(stored_as(made, before), f"{weight_of(op)}.shrunk")
    return builder.emit(Contract, **{**fields_of(op), "b": b})

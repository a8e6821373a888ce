"""Key-value caches in codes instead of f32: other inputs and outputs, the same model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from tilewright.compiler.errors import UserError
from tilewright.compiler.formats.caches import CACHES, LEAST_BLOCK, RECORD, CacheFormat
from tilewright.compiler.ir.core import Graph, Op, Value, walk
from tilewright.compiler.ir.ops.caches import CachedAttention, EncodeRows
from tilewright.compiler.ir.ops.nn import Attention
from tilewright.compiler.ir.ops.shape import Concat, Reshape, Slice, Transpose
from tilewright.compiler.ir.ops.unary import Cast
from tilewright.compiler.ir.rewrite import Builder, Replacement, rewrite
from tilewright.compiler.ir.types import BY_LABEL, DType, TensorType
from tilewright.passes.remove_dead_code import remove_dead_code

Coded = tuple[Value, Value]
"""Codes and scales of a value."""


@dataclass(frozen=True)
class Cache:
    """An output that attention reads as keys or values, and the input that it continues.

    past: None where the output does not depend on an input of its kind (prefill).
    """

    format: str
    present: str
    past: str | None

    def record(self) -> dict[str, str]:
        """For the artifact (`runtime.caches`)."""
        made = {
            "format": self.format,
            "present": self.present,
            "present_scale": scale_name(self.present),
        }
        if self.past is not None:
            made |= {"past": self.past, "past_scale": scale_name(self.past)}
        return made


def scale_name(name: str) -> str:
    """Name of the scales of an input or output."""
    return f"{name}_scale"


def quantize_caches(graph: Graph, name: str) -> tuple[Graph, tuple[Cache, ...]]:
    """Store the keys and values that `graph` takes and gives back in the cache format `name`.

        past_k f32 [.., past, 64]          ->  past_k i8 [.., past, 64], past_k_scale f32 [.., past]
        present = concat(past, new)        ->  concat(past, codes of new), and of their scales
        attention(q, present_k, present_v) ->  cached_attention that reads the codes

    A row is quantized once, when it is new. What makes rows and what attends to rows that are all
    new (prefill) stays as it is. Takes a graph in which attention is recognized and nothing fused.
    Raises UserError where there are no caches, where rows have a size that the format cannot
    store, and where an input is read as something else too.
    """
    made = CACHES[name]
    found = _Caches(graph, made)
    if not found.outputs:
        raise UserError(
            f"kv-cache {name}",
            "the model has no key-value caches",
            "expected outputs whose rows attention reads as keys or values, found "
            + ", ".join(f"{n} {v.type}" for n, v in _named(graph)),
            "export the model with past and present keys and values, or leave --kv-cache away",
        )
    for value, label in found.outputs:
        _check_rows(value.shape[-1], label, made)
    result = _rewritten(graph, found, made)
    caches = tuple(Cache(name, label, found.past(v)) for v, label in found.outputs)
    records = [c.record() for c in caches]
    return result.replace(metadata={**graph.metadata, RECORD: json.dumps(records)}), caches


def _named(graph: Graph) -> Sequence[tuple[str, Value]]:
    return list(zip(graph.output_names, graph.outputs, strict=True))


def _check_rows(size: int, label: str, made: CacheFormat) -> None:
    if made.supports(size):
        return
    block = made.block(size)
    raise UserError(
        f"kv-cache {made.name}",
        f"rows of output {label!r} have no Hadamard matrix",
        f"expected a head size that a power of two of at least {LEAST_BLOCK} divides, found {size},"
        f" which {block} divides" + (" at most" if block > 1 else " alone"),
        "take --kv-cache int8",
    )


class _Caches:
    """The outputs that are caches, and the values that get codes."""

    def __init__(self, graph: Graph, made: CacheFormat) -> None:
        self.made = made
        attentions = [op for op in walk(graph.ops) if isinstance(op, Attention)]
        read = [op for op in attentions if op.k_axes[-1] == "d" and op.v_axes[-1] == "e"]
        rows = {leaf for op in read for v in (op.k, op.v) for leaf in _leaves(v)}
        self.outputs = [
            (value, name)
            for name, value in _named(graph)
            if value.rank > 1 and isinstance(value.shape[-1], int) and set(_leaves(value)) <= rows
        ]
        inputs = set(graph.inputs)
        self.inputs = {v for out, _ in self.outputs for v in _leaves(out) if v in inputs}
        self.needed: set[Value] = set()
        for value, _ in self.outputs:
            self._need(value)
        self.readers: set[Op] = set()
        for op in read:
            if op in graph.ops and self.inputs.intersection((*_leaves(op.k), *_leaves(op.v))):
                self.readers.add(op)
                self._need(op.k)
                self._need(op.v)

    def past(self, output: Value) -> str | None:
        """The input that an output continues."""
        return next((v.name for v in _leaves(output) if v in self.inputs), None)

    def _need(self, value: Value) -> None:
        if value not in self.needed:
            self.needed.add(value)
            for part in self.parts(value):
                self._need(part)

    def parts(self, value: Value) -> tuple[Value, ...]:
        """The values whose codes are moved to make those of `value`; () where its rows are stored.

        New rows are stored after they were transposed, which then takes no copy of its own.
        """
        new = isinstance(value.op, Transpose) and self.inputs.isdisjoint(_leaves(value))
        return () if new else _moved(value)


def _moved(value: Value) -> tuple[Value, ...]:
    """The operands of an operation that moves whole rows, () for any other value."""
    op, last = value.op, value.rank - 1
    if isinstance(op, Cast):
        return (op.x,) if op.x.dtype.is_float and value.dtype.is_float else ()
    if isinstance(op, Reshape):
        return (op.x,) if op.x.rank and op.x.shape[-1] == value.shape[-1] else ()
    if isinstance(op, Slice):
        whole = op.starts[-1] == 0 and op.steps[-1] == 1 and op.shape[-1] == op.x.shape[-1]
        return (op.x,) if whole else ()
    if isinstance(op, Transpose):
        return (op.x,) if op.perm[-1] == last else ()
    if isinstance(op, Concat):
        return op.parts if op.axis != last else ()
    return ()


def _leaves(value: Value) -> tuple[Value, ...]:
    """What the rows of a value come from."""
    found: dict[Value, None] = {}
    todo = [value]
    while todo:
        one = todo.pop()
        parts = _moved(one)
        todo += parts
        if not parts:
            found[one] = None
    return tuple(found)


def _rewritten(graph: Graph, found: _Caches, made: CacheFormat) -> Graph:
    coded: dict[Value, Coded] = {}
    scales: list[Value] = []

    def entering(value: Value) -> Value:
        if value not in found.inputs:
            return value
        codes = BY_LABEL[made.dtype], (*value.shape[:-1], made.width(value.shape[-1]))
        pair = (
            Value(TensorType(*codes), value.name),
            Value(TensorType(DType.F32, value.shape[:-1]), scale_name(value.name)),
        )
        coded[value] = pair
        scales.append(pair[1])
        return pair[0]

    inputs = tuple(map(entering, graph.inputs))

    def rule(op: Op, builder: Builder) -> Replacement:
        before = builder.original
        assert before is not None
        if before in found.readers:
            assert isinstance(op, Attention)
            assert isinstance(before, Attention)
            return (_attention(op, coded[before.k], coded[before.v], before, made, builder),)
        wanted = [v for v in before.results if v in found.needed]
        if not wanted:
            return None
        builder.ops.append(op)
        for old, new in zip(before.results, op.results, strict=True):
            new.name = old.name
            if old in found.needed:
                parts = found.parts(old)
                if parts:
                    coded[old] = _move(old, [coded[p] for p in parts], made, builder)
                else:
                    pair = builder.emit_multi(EncodeRows, x=_wide(new, builder), format=made.name)
                    coded[old] = (pair[0], pair[1])
                for value, end in zip(coded[old], ("codes", "scales"), strict=True):
                    value.name = value.name or f"{old.name}_{end}"
        return op.results

    after = rewrite(graph, rule)
    caches = [value for value, _ in found.outputs]
    originals = dict(zip(graph.outputs, after.outputs, strict=True))
    outputs = [coded[v][0] if v in caches else originals[v] for v in graph.outputs]
    outputs += [coded[v][1] for v in caches]
    names = (*graph.output_names, *(scale_name(name) for _, name in found.outputs))
    result = remove_dead_code(
        after.replace(inputs=(*inputs, *scales), outputs=tuple(outputs), output_names=names)
    )
    _check_readers(result, found)
    return result


def _wide(value: Value, builder: Builder) -> Value:
    return value if value.dtype == DType.F32 else builder.emit(Cast, x=value, dtype=DType.F32)


def _move(value: Value, parts: list[Coded], made: CacheFormat, builder: Builder) -> Coded:
    """Codes and scales of a value whose operation moves rows."""
    op, width = value.op, made.width(value.shape[-1])
    if isinstance(op, Cast):
        return parts[0]
    (codes, scales), *_ = parts
    if isinstance(op, Reshape):
        return (
            builder.emit(Reshape, x=codes, shape=(*op.shape[:-1], width)),
            builder.emit(Reshape, x=scales, shape=op.shape[:-1]),
        )
    if isinstance(op, Slice):
        starts, steps, shape = op.starts[:-1], op.steps[:-1], op.shape[:-1]
        return (
            builder.emit(Slice, x=codes, starts=op.starts, steps=op.steps, shape=(*shape, width)),
            builder.emit(Slice, x=scales, starts=starts, steps=steps, shape=shape),
        )
    if isinstance(op, Transpose):
        return (
            builder.emit(Transpose, x=codes, perm=op.perm),
            builder.emit(Transpose, x=scales, perm=op.perm[:-1]),
        )
    assert isinstance(op, Concat)
    return (
        builder.emit(Concat, parts=tuple(c for c, _ in parts), axis=op.axis),
        builder.emit(Concat, parts=tuple(s for _, s in parts), axis=op.axis),
    )


def _attention(
    op: Attention, k: Coded, v: Coded, before: Attention, made: CacheFormat, builder: Builder
) -> Value:
    return builder.emit(
        CachedAttention,
        q=op.q,
        k=k[0],
        k_scale=k[1],
        v=v[0],
        v_scale=v[1],
        mask=op.mask,
        format=made.name,
        d=before.k.shape[-1],
        e=before.v.shape[-1],
        scale=op.scale,
        causal=op.causal,
        causal_end=op.causal_end,
        masked_zero=op.masked_zero,
        q_axes=op.q_axes,
        k_axes=op.k_axes,
        v_axes=op.v_axes,
        out_axes=op.out_axes,
    )


def _check_readers(graph: Graph, found: _Caches) -> None:
    for op in walk(graph.ops):
        for value in op.operands:
            if value in found.inputs:
                raise UserError(
                    f"kv-cache {found.made.name}",
                    f"input {value.name!r} is read as more than a cache",
                    f"node {op.source!r} takes its values",
                    "leave --kv-cache away",
                )

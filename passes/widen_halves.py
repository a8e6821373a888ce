"""float16 models computed in float32: only what the model asks for is rounded."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from tilewright.compiler.ir.core import OPS, Graph, Op, Value
from tilewright.compiler.ir.ops import binary, nn, reduce, shape, unary
from tilewright.compiler.ir.ops.contraction import Contract, Conv
from tilewright.compiler.ir.ops.leaf import Constant, Fill
from tilewright.compiler.ir.rewrite import Builder, Replacement, rewrite
from tilewright.compiler.ir.types import DType, TensorType
from tilewright.compiler.ir.weights import Weight
from tilewright.passes.registry import graph_pass
from tilewright.passes.remove_dead_code import remove_dead_code

_MODULES = {m.__name__ for m in (binary, nn, reduce, shape, unary)}
_ALL = frozenset(c for c in OPS.values() if c.__module__ in _MODULES) | {Contract, Conv}

_PICKING = frozenset(
    {
        *(c for c in _ALL if c.__module__ == shape.__name__),
        *(nn.MaxPoolIndices, reduce.ArgReduce, reduce.TopK),
        *(binary.Where, binary.Eq, binary.Lt, binary.Le, binary.Gt, binary.Ge),
        *(unary.IsNan, unary.IsInf),
    }
)
"""Operations that round nothing: they take the type that their operands have."""

_COMPUTING = _ALL - _PICKING - {unary.Cast, unary.Bitcast}


@graph_pass
def widen_halves(graph: Graph) -> Graph:
    """Compute in f32 what is f16, and round where f16 is asked for.

        matmul(a, b): f16              ->  cast_f16(matmul(cast_f32(a), cast_f32(b)))
        cast_f32(the cast_f16 above)   ->  the matmul in f32

    Between operations nothing is rounded then, which leaves outputs, operands of control flow, and
    casts to f16 that the model has. Constants become f32 constants; kernels that store them as f16
    know that they are f16 numbers.

    Requires: nothing.
    Ensures: no arithmetic on f16.
    Leaves alone: operations that only move or compare f16 of the model's own (a table that is
        looked up stays f16); casts of the model; regions' parameters and results.
    """
    ours: set[Value] = set()
    known: dict[tuple[Builder, Value], Value] = {}

    def wide(value: Value, builder: Builder) -> Value:
        """`value` in f32, as it was before it was rounded if that was done here."""
        if value in ours:
            assert isinstance(value.op, unary.Cast)
            return value.op.x
        # A block's operations are not seen by others.
        key = (builder, value)
        if key not in known:
            known[key] = _widened(value, builder, wide)
        return known[key]

    def rule(op: Op, builder: Builder) -> Replacement:
        halves = [v for v in op.operands if v.dtype == DType.F16]
        if not halves or op.regions:
            return None
        if isinstance(op, unary.Cast):
            if op.x not in ours:
                return None
            if op.dtype == DType.F32:
                return (wide(op.x, builder),)
        elif type(op) not in _COMPUTING and not (
            type(op) in _PICKING and any(v in ours for v in halves)
        ):
            return None
        changes: dict[str, Any] = {}
        for name in op.operand_fields:
            old = getattr(op, name)
            if isinstance(old, tuple):
                changes[name] = tuple(_of(v, builder, wide) for v in old)
            elif old is not None:
                changes[name] = _of(old, builder, wide)
        made = dataclasses.replace(op, **changes)
        builder.ops.append(made)
        results = []
        for old_value, value in zip(op.results, made.results, strict=True):
            value.name = old_value.name
            if value.dtype != old_value.dtype:
                value = builder.emit(unary.Cast, x=value, dtype=old_value.dtype)
                ours.add(value)
            results.append(value)
        return tuple(results)

    after = rewrite(graph, rule)
    return graph if after is graph else remove_dead_code(after)


Wide = Callable[[Value, Builder], Value]


def _of(value: Value, builder: Builder, wide: Wide) -> Value:
    return wide(value, builder) if value.dtype == DType.F16 else value


def _widened(value: Value, builder: Builder, wide: Wide) -> Value:
    """An f16 value of the model as f32; a constant as a constant, behind views of it too."""
    op = value.op
    kind = TensorType(DType.F32, value.shape)
    if isinstance(op, Fill):
        return builder.emit(Fill, value=float(np.float16(op.value)), type=kind)
    if isinstance(op, Constant):
        return _constant(op, kind, builder)
    if isinstance(op, shape.Transpose | shape.Reshape) and _stored(value):
        made = dataclasses.replace(op, x=wide(op.x, builder))
        builder.ops.append(made)
        return made.out
    return builder.emit(unary.Cast, x=value, dtype=DType.F32)


def _stored(value: Value) -> bool:
    while isinstance(value.op, shape.Transpose | shape.Reshape):
        value = value.op.x
    return isinstance(value.op, Constant)


def _constant(op: Constant, kind: TensorType, builder: Builder) -> Value:
    """The f32 constant of the same numbers, converted whenever it is read."""
    weight = builder.added[op.name] if op.name in builder.added else builder.weights[op.name]
    name = builder.weights.fresh(f"{op.name}.f32", builder.added)

    def load() -> np.ndarray:
        return weight.load().astype(np.float32)

    builder.added[name] = Weight(kind, load)
    return builder.emit(Constant, name=name, type=kind)

"""Rebuilding graphs: the one mechanism that passes use."""

import dataclasses
from collections.abc import Callable, Container, Mapping
from typing import Any

import numpy as np

from tilewright.compiler.ir.core import Graph, Op, Region, Value
from tilewright.compiler.ir.ops.contraction import Contract, Conv
from tilewright.compiler.ir.ops.control import Fused
from tilewright.compiler.ir.ops.leaf import Constant
from tilewright.compiler.ir.weights import Weight, WeightStore, from_array

Replacement = tuple[Value, ...] | None


class Builder:
    """Collects operations in order; new constants go to `added`.

    While a rule runs, `original` is the operation of the old graph that it was offered (before its
    operands were mapped) and `source` its ONNX nodes, which emitted operations inherit.
    """

    def __init__(self, weights: WeightStore) -> None:
        self.weights = weights
        self.added: dict[str, Weight] = {}
        self.ops: list[Op] = []
        self.source = ""
        self.original: Op | None = None

    def emit(self, op: type[Op], **fields: Any) -> Value:
        """Append `op(**fields)` and return its only result."""
        return self.emit_multi(op, **fields)[0]

    def emit_multi(self, op: type[Op], **fields: Any) -> tuple[Value, ...]:
        """Append `op(**fields)` and return all results."""
        fields.setdefault("source", self.source)
        made = op(**fields)
        self.ops.append(made)
        return made.results

    def constant(self, array: np.ndarray, stem: str = "c") -> Value:
        """A constant with the elements of `array`."""
        weight = from_array(np.asarray(array))
        name = self.weights.fresh(stem, self.added)
        self.added[name] = weight
        return self.emit(Constant, name=name, type=weight.type)

    def array(self, value: Value) -> np.ndarray | None:
        """The elements of `value` when a constant made it, else None."""
        if not isinstance(value.op, Constant):
            return None
        name = value.op.name
        return (self.added[name] if name in self.added else self.weights[name]).load()


Rule = Callable[[Op, Builder], Replacement]


def with_operands(op: Op, mapping: Mapping[Value, Value], regions: Mapping[str, Region]) -> Op:
    """`op` with operands and regions replaced; the same object when nothing changes."""
    changes: dict[str, Any] = dict(regions)
    for name in op.operand_fields:
        old = getattr(op, name)
        if isinstance(old, tuple):
            new: Any = tuple(mapping.get(v, v) for v in old)
            if any(a is not b for a, b in zip(old, new, strict=True)):
                changes[name] = new
        elif old is not None and mapping.get(old, old) is not old:
            changes[name] = mapping[old]
    if not changes:
        return op
    made = dataclasses.replace(op, **changes)
    for old_value, new_value in zip(op.results, made.results, strict=True):
        new_value.name = old_value.name
    return made


CLOSED = (Contract, Conv, Fused)
"""Operations whose regions use nothing but their parameters; `rewrite` does not enter them."""


def rewrite(graph: Graph, rule: Rule, drop: Container[Op] = ()) -> Graph:
    """Rebuild `graph` in order, offering every operation (operands already mapped) to `rule`.

    `rule(op, builder)` returns None to keep the operation, or one value per result to use instead;
    the values come from operations it emitted with `builder` or from earlier ones. Nested regions
    are rebuilt first, those of fused operations and epilogues are left as they are. Operations that
    lose their users stay: dead-code elimination removes them. Operations in `drop` vanish; nothing
    may use their results.
    """
    mapping: dict[Value, Value] = {}
    added: dict[str, Weight] = {}

    def rebuild_block(ops: tuple[Op, ...]) -> tuple[Op, ...]:
        builder = Builder(graph.weights)
        builder.added = added
        for op in ops:
            if op in drop:
                continue
            regions = {}
            for name in op.region_fields:
                region = getattr(op, name)
                if region is None or isinstance(op, CLOSED):
                    continue
                inner = rebuild_block(region.ops)
                results = tuple(mapping.get(v, v) for v in region.results)
                same = len(inner) == len(region.ops) and all(
                    a is b for a, b in zip(inner, region.ops, strict=True)
                )
                if not same or any(
                    a is not b for a, b in zip(results, region.results, strict=True)
                ):
                    regions[name] = Region(region.params, inner, results)
            current = with_operands(op, mapping, regions)
            builder.source, builder.original = current.source, op
            replacement = rule(current, builder)
            if replacement is None:
                builder.ops.append(current)
                replacement = current.results
            for old, new in zip(op.results, replacement, strict=True):
                if old is not new:
                    mapping[old] = new
                    new.name = new.name or old.name
        return tuple(builder.ops)

    ops = rebuild_block(graph.ops)
    outputs = tuple(mapping.get(v, v) for v in graph.outputs)
    if len(ops) == len(graph.ops) and all(a is b for a, b in zip(ops, graph.ops, strict=True)):
        return graph
    return graph.replace(ops=ops, outputs=outputs, weights=graph.weights.merged(added))


def clone_region(
    region: Region, arguments: tuple[Value, ...], builder: Builder
) -> tuple[Value, ...]:
    """Emit a copy of the operations of `region` with its parameters bound to `arguments`."""
    mapping = dict(zip(region.params, arguments, strict=True))
    builder.ops.extend(_clone_ops(region.ops, mapping))
    return tuple(mapping.get(v, v) for v in region.results)


def _clone_ops(ops: tuple[Op, ...], mapping: dict[Value, Value]) -> list[Op]:
    made: list[Op] = []
    for op in ops:
        regions = {}
        for name in op.region_fields:
            inner = getattr(op, name)
            if inner is None:
                continue
            params = tuple(Value(p.type, p.name) for p in inner.params)
            mapping.update(zip(inner.params, params, strict=True))
            nested = tuple(_clone_ops(inner.ops, mapping))
            results = tuple(mapping.get(v, v) for v in inner.results)
            regions[name] = Region(params, nested, results)
        copy = with_operands(op, mapping, regions)
        if copy is op:
            copy = dataclasses.replace(op)
        made.append(copy)
        mapping.update(zip(op.results, copy.results, strict=True))
    return made

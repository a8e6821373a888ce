"""Contractions of one input become one contraction."""

import dataclasses
from collections import defaultdict
from collections.abc import Hashable

import numpy as np

from tilewright.compiler.formats.format import Encoded
from tilewright.compiler.ir.core import Graph, Op, Value, users
from tilewright.compiler.ir.dims import Dim
from tilewright.compiler.ir.ops.binary import Add
from tilewright.compiler.ir.ops.contraction import Contract
from tilewright.compiler.ir.ops.leaf import Constant
from tilewright.compiler.ir.ops.shape import Slice
from tilewright.compiler.ir.rewrite import Builder, Replacement, rewrite
from tilewright.compiler.ir.types import DType, TensorType
from tilewright.compiler.ir.weights import Coded, Weight, WeightStore
from tilewright.passes.common_steps import CommonStep, common_steps, emit_steps
from tilewright.passes.match import constant_array, sides
from tilewright.passes.op_sets import EPILOGUE_OPS
from tilewright.passes.registry import graph_pass
from tilewright.passes.remove_dead_code import remove_dead_code


@graph_pass
def merge_projections(graph: Graph) -> Graph:
    """Compute the projections of one tensor (queries, keys, values) by one contraction.

        add(contract(x, wq), bq)          y = add(contract(x, [wq wk wv]), [bq bk bv])
        add(contract(x, wk), bk)    ->    slice(y, 0..n), slice(y, n..2n), slice(y, 2n..3n)
        add(contract(x, wv), bv)

    The input is read and packed once, and one launch has the work of several. 8-bit projections
    take along all steps that they have in common (`common_steps`): zero points, casts, scales.

    Requires: nothing.
    Ensures: projections with the same spec whose results go separate ways are one contraction.
    Leaves alone: projections that an elementwise operation joins again (the gate of a GLU), since
        an epilogue does that without a copy; weights that something else uses; contractions whose
        last result axis does not come from the weights alone.
    """
    used = users(graph.ops)
    groups: dict[Hashable, list[Contract]] = defaultdict(list)
    for op in graph.ops:
        if isinstance(op, Contract) and _mergeable(op, used):
            groups[id(op.a), op.spec, op.a.dtype].append(op)
    outputs = set(graph.outputs)
    members: dict[Op, _Group] = {}
    made: dict[Op, Op] = {}
    for contracts in groups.values():
        ends = [_join(c, used, outputs) for c in contracts]
        alone = [c for c, e in zip(contracts, ends, strict=True) if e is None or ends.count(e) == 1]
        if len(alone) > 1:
            group = _Group(alone, graph.weights, used, outputs, made)
            members.update(dict.fromkeys(group.lasts, group))
    if not members:
        return graph

    def rule(op: Op, builder: Builder) -> Replacement:
        original = builder.original or op
        made[original] = op
        group = members.get(original)
        return None if group is None else (group.result(original, builder),)

    return remove_dead_code(rewrite(graph, rule))


def _mergeable(op: Contract, used: dict[Value, list[Op]]) -> bool:
    inputs, out = op.spec.split("->")
    ia, ib = inputs.split(",")
    if op.body is not None or not isinstance(op.b.op, Constant) or not out:
        return False
    last = out[-1]
    own = last in ib and last not in ia
    return own and isinstance(op.out.shape[-1], int) and len(used[op.b]) == 1


def _join(op: Contract, used: dict[Value, list[Op]], outputs: set[Value]) -> Op | None:
    """The first operation that takes the result together with another computed tensor."""
    value = op.out
    while value not in outputs and len(used.get(value, ())) == 1:
        (reader,) = used[value]
        if type(reader) not in EPILOGUE_OPS:
            return None
        others = [v for v in reader.operands if v is not value]
        if any(v.shape == value.shape and not isinstance(v.op, Constant) for v in others):
            return reader
        value = reader.results[0]
    return None


def _concatenated(weights: list[Weight], axis: int) -> Weight:
    """The weights along one axis; loaded when asked for, so that nothing is copied before."""
    first = weights[0].type
    total: Dim = 0
    for weight in weights:
        total = total + weight.type.shape[axis]
    shape = (*first.shape[:axis], total, *first.shape[axis + 1 :])
    kept: list[np.ndarray] = []

    def load() -> np.ndarray:
        if not kept:
            kept.append(np.concatenate([w.load() for w in weights], axis=axis))
        return kept[0]

    return Weight(TensorType(first.dtype, shape), load, _coded(weights, axis))


def _coded(weights: list[Weight], axis: int) -> Coded | None:
    """The codes of weights one after another along `axis`, where all have codes of one format."""
    first, *others = (w.coded for w in weights)
    if first is None or first.axis == axis:
        return None
    known = [first]
    for other in others:
        if other is None or _kind(other) != _kind(first):
            return None
        known.append(other)

    def load() -> Encoded:
        parts = [c.load() for c in known]
        arrays = {
            name: np.concatenate([p[name] for p in parts], axis=1) for name in parts[0].arrays
        }
        k, n = arrays["codes"].shape
        return Encoded((k, n), arrays)

    return dataclasses.replace(first, load=load)


def _kind(coded: Coded) -> tuple[object, ...]:
    return coded.format, coded.axis, coded.level


def _width(op: Contract) -> int:
    width = op.out.shape[-1]
    assert isinstance(width, int)
    return width


class _Group:
    """Contractions to merge, with the constant shifts that all of them may have."""

    def __init__(
        self,
        contracts: list[Contract],
        weights: WeightStore,
        used: dict[Value, list[Op]],
        outputs: set[Value],
        made: dict[Op, Op],
    ) -> None:
        self.contracts, self.weights, self.made = contracts, weights, made
        self.merged: Value | None = None
        self.biases: list[tuple[Op, Value]] = []
        self.steps: list[CommonStep] = []
        self.lasts: list[Op] = [*contracts]
        if contracts[0].out.dtype == DType.I32:
            self.steps = common_steps([c.out for c in contracts], used, outputs)
            if self.steps:
                self.lasts = [*self.steps[-1].ops]
            return
        adds = [_bias(c, used, outputs) for c in contracts]
        self.biases = [b for b in adds if b is not None]
        if len(self.biases) != len(contracts):
            self.biases = []
        if self.biases:
            self.lasts = [add for add, _ in self.biases]

    def result(self, last: Op, builder: Builder) -> Value:
        """The slice of the merged contraction that replaces the result of `last`."""
        index = self.lasts.index(last)
        if self.merged is None:
            contract = self.made[self.contracts[index]]
            assert isinstance(contract, Contract)
            self.merged = self._emit(contract.a, index, builder)
        widths = [_width(c) for c in self.contracts]
        x = self.merged
        starts = (*(0 for _ in x.shape[:-1]), sum(widths[:index]))
        shape = (*x.shape[:-1], widths[index])
        return builder.emit(Slice, x=x, starts=starts, steps=(1,) * x.rank, shape=shape)

    def _emit(self, a: Value, index: int, builder: Builder) -> Value:
        first = self.contracts[0]
        inputs, out = first.spec.split("->")
        axis = inputs.split(",")[1].index(out[-1])
        stored = [self.weights[c.b.op.name] for c in self.contracts]  # type: ignore[union-attr]
        weight = _concatenated(stored, axis)
        name = builder.weights.fresh("merged", builder.added)
        builder.added[name] = weight
        b = builder.emit(Constant, name=name, type=weight.type)
        builder.source = ", ".join(c.source for c in self.contracts if c.source)
        made = builder.emit(Contract, a=a, b=b, spec=first.spec)
        if self.biases:
            arrays = [constant_array(builder, v) for _, v in self.biases]
            flat = [
                np.broadcast_to(a.reshape(-1), (_width(c),))
                for a, c in zip(arrays, self.contracts, strict=True)
                if a is not None
            ]
            made = builder.emit(
                Add, a=made, b=builder.constant(np.concatenate(flat), "merged.bias")
            )
        widths = [_width(c) for c in self.contracts]
        return emit_steps(made, self.steps, self.made, index, widths, builder)


def _bias(
    op: Contract, used: dict[Value, list[Op]], outputs: set[Value]
) -> tuple[Op, Value] | None:
    """The add of a constant vector that alone reads the result of `op`."""
    readers = used.get(op.out, [])
    if len(readers) != 1 or op.out in outputs or not isinstance(readers[0], Add):
        return None
    for x, bias in sides(readers[0]):
        vector = all(d == 1 for d in bias.shape[:-1]) and isinstance(bias.op, Constant)
        if x is op.out and vector and readers[0].out.type == op.out.type:
            return readers[0], bias
    return None

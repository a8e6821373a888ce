"""Integer contractions of one input become one contraction."""

from collections import defaultdict
from collections.abc import Hashable

import numpy as np

from tilewright.compiler.ir.core import Graph, Op, Value, users
from tilewright.compiler.ir.dims import Dim
from tilewright.compiler.ir.ops.contraction import Contract
from tilewright.compiler.ir.ops.leaf import Constant
from tilewright.compiler.ir.ops.shape import Slice
from tilewright.compiler.ir.rewrite import Builder, Replacement, rewrite
from tilewright.compiler.ir.types import DType, TensorType
from tilewright.compiler.ir.weights import Weight, WeightStore
from tilewright.passes.common_steps import CommonStep, common_steps, emit_steps
from tilewright.passes.op_sets import EPILOGUE_OPS
from tilewright.passes.registry import graph_pass
from tilewright.passes.remove_dead_code import remove_dead_code


@graph_pass
def merge_projections(graph: Graph) -> Graph:
    """Compute 8-bit projections of one tensor (queries, keys, values) by one contraction.

        step(contract(x, wq), sq)          y = step(contract(x, [wq wk wv]), [sq sk sv])
        step(contract(x, wk), sk)    ->    slice(y, 0..n), slice(y, n..2n), slice(y, 2n..3n)
        step(contract(x, wv), sv)

    The input is read and packed once, and one launch has the work of several. It takes along all
    steps that they have in common (`common_steps`): zero points, casts, scales. Integer products
    have no numerics to choose, so that this is never worse; of float ones, which have, the
    selection decides (`backends/llvm/lowering/siblings.py`).

    Requires: nothing.
    Ensures: integer projections with the same spec whose results go separate ways are one
        contraction.
    Leaves alone: projections of floats; those that an elementwise operation joins again (the gate
        of a GLU), since an epilogue does that without a copy; weights that something else uses;
        contractions whose last result axis does not come from the weights alone.
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
    if op.body is not None or not isinstance(op.b.op, Constant) or op.out.dtype != DType.I32:
        return False
    if not out:
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

    return Weight(TensorType(first.dtype, shape), load)


def _width(op: Contract) -> int:
    width = op.out.shape[-1]
    assert isinstance(width, int)
    return width


class _Group:
    """Contractions to merge, with the steps that all of them have after them."""

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
        self.steps: list[CommonStep] = common_steps([c.out for c in contracts], used, outputs)
        self.lasts: list[Op] = [*self.steps[-1].ops] if self.steps else [*contracts]

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
        widths = [_width(c) for c in self.contracts]
        return emit_steps(made, self.steps, self.made, index, widths, builder)

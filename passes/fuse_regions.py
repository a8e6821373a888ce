"""Elementwise and row operations become kernels."""

import dataclasses

from tilewright.compiler.ir.core import Graph, Op, Region, Value, users
from tilewright.compiler.ir.ops.control import Fused
from tilewright.compiler.ir.ops.leaf import Constant, DimValue, Fill, Iota
from tilewright.compiler.ir.ops.shape import Broadcast, Slice, Transpose
from tilewright.compiler.ir.rewrite import CLOSED, with_operands
from tilewright.compiler.ir.types import TensorType
from tilewright.passes.region_groups import Group, Grouping, Space, space_of
from tilewright.passes.registry import graph_pass
from tilewright.passes.remove_dead_code import remove_dead_code

LEAVES = (Fill, Iota, DimValue)
"""Computed inside of every region that uses them: that costs less than loading them."""

LOADS = (Broadcast, Slice, Transpose)
"""Become the addresses from which a region loads, when only regions use them."""


@graph_pass
def fuse_regions(graph: Graph, max_ops: int = 40) -> Graph:
    """Collect operations that walk over the same elements into `fused` operations.

        %1 = add %x, %y                 %1, %2 = fused [%x, %y, %w] body(%x, %y, %w) {
        %2 = rms_norm %1, %w      ->      %3 = add %x, %y
                                          %4 = rms_norm %3, %w
                                          yield %3, %4 }

    A region is pointwise (all its values have one shape) or a row region: reductions, softmax,
    norms and rope over the same trailing axes, with one value per row in between. Values that are
    used outside are further results, so nothing is computed twice. Slices, transposes and
    broadcasts of the inputs become part of the loads; single-element constants become fills.

    Requires: fuse-epilogues.
    Ensures: elementwise operations, reductions over trailing axes, softmax along the last axis,
        layer_norm, rms_norm and rope stand only in `fused` operations.
    Leaves alone: reductions and softmax over other axes; regions that would exceed `max-ops`; pairs
        between which another operation has to run.
    """
    fuser = _Fuser(graph, max_ops)
    ops = fuser.block(graph.ops)
    if not fuser.changed:
        return graph
    outputs = tuple(fuser.mapping.get(v, v) for v in graph.outputs)
    return remove_dead_code(graph.replace(ops=ops, outputs=outputs))


class _Fuser:
    def __init__(self, graph: Graph, limit: int) -> None:
        self.graph, self.limit = graph, limit
        self.used = users(graph.ops)
        self.escaping: set[Value] = set(graph.outputs)
        self.mapping: dict[Value, Value] = {}
        self.changed = False

    def block(self, ops: tuple[Op, ...]) -> tuple[Op, ...]:
        """The operations of a block with its groups fused."""
        for op in ops:
            for region in op.regions:
                self.escaping.update(region.results)
        grouping = Grouping(ops, self.limit)
        out: list[Op] = []
        for group in grouping.ordered():
            if group.space is None:
                out.append(self._kept(group.members[0]))
            else:
                out.append(self._fused(group, group.space))
        return tuple(out)

    def _kept(self, op: Op) -> Op:
        regions: dict[str, Region] = {}
        for name in op.region_fields:
            region = getattr(op, name)
            if region is None or isinstance(op, CLOSED):
                continue
            inner = self.block(region.ops)
            results = tuple(self.mapping.get(v, v) for v in region.results)
            regions[name] = Region(region.params, inner, results)
        made = with_operands(op, self.mapping, regions)
        if made is not op:
            self.mapping.update(zip(op.results, made.results, strict=True))
        return made

    def _fused(self, group: Group, space: Space) -> Op:
        self.changed = True
        body = _Body(self, space)
        members = set(group.members)
        results: list[Value] = []
        for op in group.members:
            body.add(op)
            value = op.results[0]
            readers = self.used.get(value, ())
            if value in self.escaping or any(reader not in members for reader in readers):
                results.append(value)
        if not results:  # dead code: keep it well formed, it is removed next
            results = list(group.members[-1].results)
        region = Region(tuple(body.params), tuple(body.ops), tuple(body.inside[v] for v in results))
        sources = dict.fromkeys(op.source for op in group.members if op.source)
        made = dataclasses.replace(
            Fused(inputs=tuple(body.inputs), body=region),
            source=", ".join(sources),
        )
        for old, new in zip(results, made.results, strict=True):
            new.name = old.name
            self.mapping[old] = new
        return made

    def loaded(self, value: Value, space: Space) -> bool:
        """True when the move that made `value` becomes part of the loads of the region."""
        op = value.op
        if not isinstance(op, LOADS) or value in self.escaping:
            return False
        if any(space_of(reader) is None for reader in self.used.get(value, ())):
            return False
        # A row must stay contiguous: its elements are read one after the other, and again.
        rows_kept = not isinstance(op, Transpose) or op.perm[-1] == len(op.perm) - 1
        return space.axis is None or rows_kept


class _Body:
    """The body under construction."""

    def __init__(self, fuser: _Fuser, space: Space) -> None:
        self.fuser, self.space = fuser, space
        self.params: list[Value] = []
        self.inputs: list[Value] = []
        self.ops: list[Op] = []
        self.inside: dict[Value, Value] = {}

    def add(self, op: Op) -> None:
        """Put a copy of `op` into the body, and what it needs to load its operands."""
        mapping = {value: self._operand(value) for value in op.operands}
        copy = with_operands(op, mapping, {}) if mapping else dataclasses.replace(op)
        self.ops.append(copy)
        for old, new in zip(op.results, copy.results, strict=True):
            new.name = old.name
            self.inside[old] = new

    def _operand(self, value: Value) -> Value:
        if value in self.inside:
            return self.inside[value]
        op = value.op
        if isinstance(op, LEAVES) or self.fuser.loaded(value, self.space):
            assert op is not None
            self.add(op)
            return self.inside[value]
        if isinstance(op, Constant) and op.type.elements == 1:
            literal = self.fuser.graph.weights.array(op.name).reshape(-1)[0].item()
            fill = Fill(value=literal, type=TensorType(value.dtype, value.shape))
            self.ops.append(fill)
            self.inside[value] = fill.out
            return fill.out
        param = Value(value.type, value.name)
        self.params.append(param)
        self.inputs.append(self.fuser.mapping.get(value, value))
        self.inside[value] = param
        return param

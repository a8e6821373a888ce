"""Regions with reductions.

The kernel runs in phases. Phase k is a loop nest over the reduced axes that evaluates what the
k-th level of reductions needs and stores full values that are ready; the values of the level are
then known to the next phase. Dear values that a later phase needs again wait in scratch memory.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tilewright.backends.llvm.emit.arith import Value
from tilewright.backends.llvm.emit.convert import register
from tilewright.backends.llvm.emit.emit import BYTES, Emit, Index, Int
from tilewright.backends.llvm.region import dims
from tilewright.backends.llvm.region.accumulate import Accumulator
from tilewright.backends.llvm.region.analysis import is_full, phase_roots
from tilewright.backends.llvm.region.dims import Dim
from tilewright.backends.llvm.region.pointwise import decode
from tilewright.backends.llvm.region.schedule import COLUMNS, Schedule
from tilewright.backends.llvm.region.scope import Frame, Scope, lane_mask, vector_loop
from tilewright.backends.llvm.region.spec import Reduce

SLOTS = 4
"""Accumulators of one reduction along a row: they hide the latency of the additions."""


def scratch_bytes(plan: Schedule) -> Dim:
    """Scratch memory of one thread, for the kept values of one unit."""
    total: Dim = 0
    for node, _ in plan.kept:
        size = BYTES[register(plan.facts.dtypes[node])]
        total = dims.add(total, dims.mul(plan.slot_elements, size))
    return total


@dataclass
class _Phase:
    """One phase: its reductions, stores and the values it must leave in scratch memory."""

    plan: Schedule
    level: int

    @property
    def reductions(self) -> list[int]:
        facts, body = self.plan.facts, self.plan.spec.body
        return [
            i
            for i, n in enumerate(body)
            if isinstance(n, Reduce) and facts.phase[n.arg] == self.level
        ]

    @property
    def stores(self) -> list[int]:
        spec, facts = self.plan.spec, self.plan.facts
        return [
            k
            for k, s in enumerate(spec.outputs)
            if is_full(spec, s) and facts.phase[s.value] == self.level
        ]

    @property
    def keeps(self) -> list[int]:
        return [node for node, level in self.plan.kept if level == self.level]

    @property
    def roots(self) -> list[int]:
        return phase_roots(self.plan.spec, self.plan.facts, self.level) + self.keeps


class _Rows:
    """Emission state of one row region."""

    def __init__(self, e: Emit, plan: Schedule) -> None:
        self.e = e
        self.plan = plan
        self.ix = Index(e)
        self.frame = Frame(e, plan.spec, plan.facts, plan.lane, plan.lanes)
        self.slots: dict[int, Value] = {}
        offset: Dim = 0
        for node, _ in plan.kept:
            dtype = register(plan.facts.dtypes[node])
            base = e.offset(e.scratch, dims.emit(offset, e), "i8")
            self.slots[node] = base
            offset = dims.add(offset, dims.mul(plan.slot_elements, BYTES[dtype]))

    def accumulators(self, phase: _Phase) -> list[Accumulator]:
        body, dtypes = self.plan.spec.body, self.plan.facts.dtypes
        made = []
        for i in phase.reductions:
            node = body[i]
            assert isinstance(node, Reduce)
            made.append(Accumulator(self.e, node.kind, dtypes[node.arg]))
        return made

    def visit(
        self,
        phase: _Phase,
        point: Scope,
        place: Int,
        kinds: list[Accumulator],
        now: list[list[Value]],
        masked: bool,
    ) -> list[list[Value]]:
        """One point (vector) of the phase's loop; ``place`` is its element in scratch slots."""
        e, plan = self.e, self.plan
        lanes = plan.lanes
        for node, level in plan.kept:
            if level < phase.level:
                dtype = register(plan.facts.dtypes[node])
                point.memo[node] = e.load(self.slots[node], place, dtype, lanes)
        for node in phase.keeps:
            e.store(self.slots[node], place, point.wide(point.get(node)))
        for number in phase.stores:
            point.store(number, plan.spec.outputs[number])
        mask = lane_mask(e, point.count, lanes) if masked and phase.reductions else None
        following = []
        for i, kind, state in zip(phase.reductions, kinds, now, strict=True):
            what = plan.spec.body[i]
            assert isinstance(what, Reduce)
            value = point.wide(point.get(what.arg))
            index = self.position(point) if kind.arg else value
            following.append(kind.step(state, value, index, mask))
        return following

    def position(self, point: Scope) -> Value:
        """The index along the one reduced axis, for argmax."""
        (axis,) = self.plan.spec.reduced
        base = point.wide(self.ix.value(point.index[axis]))
        if axis == self.plan.lane and point.vector:
            return self.e.iadd(base, self.e.iota("i64", self.plan.lanes))
        return base

    def nest(
        self,
        axes: list[int],
        index: dict[int, Int],
        number: Int,
        carried: list[Value],
        body: Callable[[dict[int, Int], Int, list[Value]], list[Value]],
    ) -> list[Value]:
        """Loops over ``axes``; ``body`` gets their indices and the linear number of the point."""
        if not axes:
            return body(index, number, carried)
        extent = dims.emit(self.plan.spec.domain[axes[0]], self.e)

        def inside(i: Value, now: list[Value]) -> list[Value]:
            here = self.ix.add(self.ix.mul(number, extent), i)
            return self.nest(axes[1:], {**index, axes[0]: i}, here, now, body)

        return self.e.loop(0, extent, 1, carried, inside)

    def finish(self, row: Scope) -> None:
        """Write the outputs that have one element a row."""
        spec = self.plan.spec
        for number, store in enumerate(spec.outputs):
            if not is_full(spec, store):
                row.store(number, store)


def _flatten(states: list[list[list[Value]]]) -> list[Value]:
    return [v for slot in states for state in slot for v in state]


def _unflatten(
    values: list[Value], kinds: list[Accumulator], slots: int
) -> list[list[list[Value]]]:
    rest = iter(values)
    return [[[next(rest) for _ in range(k.parts)] for k in kinds] for _ in range(slots)]


def _phases(plan: Schedule) -> list[_Phase]:
    phases = [_Phase(plan, level) for level in range(plan.facts.phases)]
    return [p for p in phases if p.reductions or p.stores]


def emit_rows(e: Emit, plan: Schedule) -> None:
    """The lanes lie on a reduced axis; a unit is one row."""
    rows = _Rows(e, plan)
    ix, spec, lane = rows.ix, plan.spec, plan.lane
    others = [a for a in spec.reduced if a != lane]

    def unit_body(unit: Value, _: list[Value]) -> list[Value]:
        index, _block = decode(e, plan, unit)
        row = Scope(rows.frame, None, index)
        for phase in _phases(plan):
            run_phase(row, index, phase)
        rows.finish(row)
        return []

    def run_phase(row: Scope, index: dict[int, Int], phase: _Phase) -> None:
        kinds = rows.accumulators(phase)
        slots = SLOTS
        row.hoist(phase.roots)
        start = [[k.start(plan.lanes) for k in kinds] for _ in range(slots)]
        extent = dims.emit(spec.domain[lane], e)
        width = max(plan.lanes, 1)
        padded = ix.mul(ix.div(ix.add(extent, width - 1), width), width)

        def line(at: dict[int, Int], number: Int, carried: list[Value]) -> list[Value]:
            outer = row.inner(at)
            outer.hoist(phase.roots)

            def body(base: Int, count: Int | None, slot: int, now: list[Value]) -> list[Value]:
                states = _unflatten(now, kinds, slots)
                point = outer.inner({lane: base}, count)
                place = ix.add(ix.mul(number, padded), base)
                masked = count is not None
                states[slot] = rows.visit(phase, point, place, kinds, states[slot], masked)
                return _flatten(states)

            return vector_loop(e, 0, extent, plan.lanes, slots, carried, body)

        final = rows.nest(others, {}, 0, _flatten(start), line)
        states = _unflatten(final, kinds, slots)
        for k, (node, kind) in enumerate(zip(phase.reductions, kinds, strict=True)):
            joined = kind.combine([states[slot][k] for slot in range(slots)])
            row.memo[node] = kind.result(kind.across(joined))

    e.loop(e.begin, e.end, 1, [], unit_body)


def emit_columns(e: Emit, plan: Schedule) -> None:
    """The lanes lie on a kept axis; a unit is `COLUMNS` vectors of columns."""
    rows = _Rows(e, plan)
    ix, spec, lane = rows.ix, plan.spec, plan.lane
    width = max(plan.lanes, 1)

    def unit_body(unit: Value, _: list[Value]) -> list[Value]:
        index, block = decode(e, plan, unit)
        extent = dims.emit(spec.domain[lane], e)
        low = ix.mul(block, COLUMNS * width)
        left = ix.sub(extent, low)

        def group() -> list[Value]:
            run([Scope(rows.frame, None, {**index, lane: ix.add(low, k * width)})
                 for k in range(COLUMNS)], masked=False)  # fmt: skip
            return []

        def singles() -> list[Value]:
            high = ix.min(extent, ix.add(low, COLUMNS * width))

            def one(base: Int, count: Int | None, slot: int, now: list[Value]) -> list[Value]:
                run([Scope(rows.frame, None, {**index, lane: base}, count)], False)
                return now

            vector_loop(e, low, high, plan.lanes, 1, [], one)
            return []

        if isinstance(extent, int) and extent % (COLUMNS * width) == 0:
            group()
        elif isinstance(extent, int) and extent < COLUMNS * width:
            singles()
        else:
            e.branch(ix.lt(left, COLUMNS * width), singles, group)
        return []

    def run(columns: list[Scope], masked: bool) -> None:
        count = len(columns)
        for phase in _phases(plan):
            kinds = rows.accumulators(phase)
            for column in columns:
                column.hoist(phase.roots)
            start = [[k.start(plan.lanes) for k in kinds] for _ in columns]

            def body(
                at: dict[int, Int],
                number: Int,
                now: list[Value],
                phase: _Phase = phase,
                kinds: list[Accumulator] = kinds,
            ) -> list[Value]:
                states = _unflatten(now, kinds, count)
                for k, column in enumerate(columns):
                    place = ix.mul(ix.add(ix.mul(number, COLUMNS), k), width)
                    point = column.inner(at)
                    states[k] = rows.visit(phase, point, place, kinds, states[k], masked)
                return _flatten(states)

            final = rows.nest(list(spec.reduced), {}, 0, _flatten(start), body)
            states = _unflatten(final, kinds, count)
            for k, column in enumerate(columns):
                for node, state, kind in zip(phase.reductions, states[k], kinds, strict=True):
                    column.memo[node] = kind.result(state)
        for column in columns:
            rows.finish(column)

    e.loop(e.begin, e.end, 1, [], unit_body)

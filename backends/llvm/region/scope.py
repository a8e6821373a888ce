"""Evaluating body nodes at one point (or vector of points) of the domain.

Scopes nest like the loops: a node is evaluated in the outermost scope that binds all its axes, so
that loads which do not depend on an inner loop stay outside it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from tilewright.backends.llvm.emit.arith import Value
from tilewright.backends.llvm.emit.convert import register, storage, to_register, to_storage
from tilewright.backends.llvm.emit.elementwise import apply
from tilewright.backends.llvm.emit.emit import Emit, Index, Int
from tilewright.backends.llvm.region import dims
from tilewright.backends.llvm.region.analysis import Facts, needed
from tilewright.backends.llvm.region.spec import (
    Const,
    DimValue,
    Gather,
    Iota,
    Load,
    Op,
    Piece,
    Reduce,
    RegionSpec,
    Store,
)


@dataclass(frozen=True)
class Frame:
    """What all scopes of one kernel share. ``lanes`` 0: scalar code, no axis is special."""

    e: Emit
    spec: RegionSpec
    facts: Facts
    lane: int
    lanes: int


@dataclass
class Scope:
    """Values at one loop level.

    ``index`` holds the bound axes; for the lane axis it is the index of lane 0 and ``count``, if
    given, the number of lanes that exist. ``arms`` fixes the arm of pieces along the lane axis.
    """

    frame: Frame
    parent: Scope | None
    index: dict[int, Int]
    count: Int | None = None
    arms: dict[int, int] = field(default_factory=dict)
    memo: dict[int, Value] = field(default_factory=dict)

    @property
    def vector(self) -> bool:
        return self.frame.lanes > 0 and self.frame.lane in self.index

    def inner(self, index: dict[int, Int], count: Int | None = None) -> Scope:
        """A scope inside this one that binds further axes."""
        limit = count if count is not None else self.count
        return Scope(self.frame, self, {**self.index, **index}, limit, dict(self.arms))

    def find(self, node: int) -> Value | None:
        scope: Scope | None = self
        while scope is not None:
            if node in scope.memo:
                return scope.memo[node]
            scope = scope.parent
        return None

    def get(self, node: int) -> Value:
        """Register value of body node ``node``: a scalar unless it varies along the lanes."""
        value = self.find(node)
        if value is None:
            value = self._compute(node)
            self.memo[node] = value
        return value

    def hoist(self, roots: list[int]) -> None:
        """Evaluate here what ``roots`` need and this scope binds completely."""
        facts, bound = self.frame.facts, frozenset(self.index)
        for node in sorted(needed(self.frame.spec, roots)):
            made = isinstance(self.frame.spec.body[node], Reduce)
            if not made and facts.axes[node] <= bound and facts.cost[node]:
                self.get(node)

    def wide(self, value: Value) -> Value:
        """``value`` with as many lanes as this scope's vectors."""
        e = self.frame.e
        if not self.vector or e.lanes(value):
            return value
        return e.broadcast(value, self.frame.lanes)

    def mask(self) -> Value:
        """The lanes that exist; only with ``count``."""
        return lane_mask(self.frame.e, self.count, self.frame.lanes)

    def _compute(self, node: int) -> Value:
        e, spec, facts = self.frame.e, self.frame.spec, self.frame.facts
        what = spec.body[node]
        match what:
            case Const():
                value = what.value
                return e.const(register(what.dtype), value)
            case DimValue():
                return Index(e).value(dims.emit(what.dim, e))
            case Iota():
                base = Index(e).value(self.index[what.axis])
                if what.axis != self.frame.lane or not self.vector:
                    return base
                return e.iadd(self.wide(base), e.iota("i64", self.frame.lanes))
            case Load():
                return self._load(node, what)
            case Op():
                args = [self.get(i) for i in what.args]
                if any(e.lanes(a) for a in args):
                    args = [self.wide(a) for a in args]
                return apply(e, what.name, args, [facts.dtypes[i] for i in what.args], what.dtype)
            case Piece():
                return self._piece(node, what)
            case Reduce():
                raise AssertionError(f"reduction {node} is read before its loop")

    def _piece(self, node: int, piece: Piece) -> Value:
        if node in self.arms:
            return self.wide(self.get(piece.args[self.arms[node]]))
        e, ix = self.frame.e, Index(self.frame.e)
        position = self.index[piece.axis]

        def arm(k: int) -> list[Value]:
            if k == len(piece.starts):
                inside = self.inner({})
                return [inside.wide(inside.get(piece.args[k]))]
            below = ix.lt(position, dims.emit(piece.starts[k], e))

            def this() -> list[Value]:
                inside = self.inner({})
                return [inside.wide(inside.get(piece.args[k]))]

            return e.branch(below, this, lambda: arm(k + 1))

        return arm(0)[0]

    def offset_of(self, strides: tuple[dims.Dim, ...], offset: dims.Dim) -> Int:
        """Element offset at this scope's index (lane 0)."""
        e, ix = self.frame.e, Index(self.frame.e)
        total = dims.emit(offset, e)
        for axis, stride in enumerate(strides):
            if axis in self.index and stride != 0:
                total = ix.add(total, ix.mul(self.index[axis], dims.emit(stride, e)))
        return total

    def _load(self, node: int, load: Load) -> Value:
        e, frame = self.frame.e, self.frame
        dtype = frame.spec.inputs[load.input]
        kind = storage(e, dtype)
        pointer = e.arg(load.input)
        ix = Index(e)
        base = self.offset_of(load.strides, load.offset)
        stride = load.strides[frame.lane] if self.vector else 0
        varying: list[Value] = []
        for gather in load.gathers:
            index = self._checked(gather)
            step = ix.value(dims.emit(gather.stride, e))
            if e.lanes(index):
                varying.append(e.imul(index, self.wide(step)))
            else:
                base = ix.add(base, ix.mul(index, step))
        if not varying and stride == 0:
            return to_register(e, e.load(pointer, base, kind), dtype)
        if not varying and stride == 1:
            raw = e.load(pointer, base, kind, frame.lanes, self.count)
            return to_register(e, raw, dtype)
        if not varying and stride == -1 and self.count is None:
            raw = e.load(pointer, ix.sub(base, frame.lanes - 1), kind, frame.lanes)
            raw = e.shuffle(raw, raw, list(reversed(range(frame.lanes))))
            return to_register(e, raw, dtype)
        if not varying and stride in (2, -2) and self.count is None:
            return to_register(e, self._every_other(pointer, base, kind, stride == 2), dtype)
        steps = e.iota("i64", frame.lanes)
        if self.count is not None:
            # Lanes that do not exist read the last one that does.
            last = self.wide(ix.value(ix.max(ix.sub(self.count, 1), 0)))
            steps = e.select(e.icmp("<", steps, last), steps, last)
        index = e.imul(steps, self.wide(ix.value(dims.emit(stride, e))))
        index = e.iadd(index, self.wide(ix.value(base)))
        for part in varying:
            index = e.iadd(index, part)
        raw = e.const(kind, 0, frame.lanes)
        for lane in range(frame.lanes):
            raw = e.insert(raw, e.load(pointer, e.extract(index, lane), kind), lane)
        return to_register(e, raw, dtype)

    def _every_other(self, pointer: Value, base: Int, kind: str, forward: bool) -> Value:
        """Lanes two elements apart: two loads that end at the last element, and a shuffle."""
        e, ix, lanes = self.frame.e, Index(self.frame.e), self.frame.lanes
        first = base if forward else ix.sub(base, 2 * (lanes - 1))
        low = e.load(pointer, first, kind, lanes)
        high = e.load(pointer, ix.add(first, lanes - 1), kind, lanes)
        # Element 2j of the span is in `low`, or at 2j - (lanes - 1) of `high`.
        picks = [2 * j if 2 * j < lanes else 2 * j + 1 for j in range(lanes)]
        return e.shuffle(low, high, picks if forward else picks[::-1])

    def _checked(self, gather: Gather) -> Value:
        """The i64 index of ``gather``, wrapped and checked as its contract says."""
        e, ix = self.frame.e, Index(self.frame.e)
        index = self.get(gather.value)
        if e.dtype(index) != "i64":
            index = e.sext(index, "i64")
        if not gather.error:
            return index
        lanes = e.lanes(index)

        def like(x: Int) -> Value:
            return self.wide(ix.value(x)) if lanes else ix.value(x)

        extent, zero = like(dims.emit(gather.extent, e)), like(0)
        wrapped = e.iadd(index, extent)
        index = e.select(e.icmp("<", index, zero), wrapped, index)
        bad = e.icmp(">=", index, extent, signed=False)
        reported = e.and_(bad, self.mask()) if lanes and self.count is not None else bad
        e.fail_if(e.any(reported), gather.error)
        return e.select(bad, zero, index)

    def store(self, number: int, store: Store) -> None:
        """Write output ``number`` here."""
        e, frame = self.frame.e, self.frame
        pointer = e.arg(len(frame.spec.inputs) + number)
        value = to_storage(e, self.get(store.value), store.dtype)
        base = self.offset_of(store.strides, store.offset)
        stride = store.strides[frame.lane] if self.vector else 0
        if not self.vector or stride == 0:
            e.store(pointer, base, value)
            return
        value = self.wide(value)
        if stride == 1:
            e.store(pointer, base, value, self.count)
            return
        ix = Index(e)
        step = dims.emit(stride, e)
        for lane in range(frame.lanes):
            place = ix.add(base, ix.mul(lane, step))
            if self.count is None:
                e.store(pointer, place, e.extract(value, lane))
                continue

            def write(place: Int = place, lane: int = lane) -> list[Value]:
                e.store(pointer, place, e.extract(value, lane))
                return []

            e.branch(ix.lt(lane, self.count), write, list)


def lane_mask(e: Emit, count: Int | None, lanes: int) -> Value:
    """i1 vector of the lanes below ``count``."""
    assert count is not None
    limit = e.broadcast(Index(e).value(count), lanes)
    return e.icmp("<", e.iota("i64", lanes), limit)


def vector_loop(
    e: Emit,
    begin: Int,
    end: Int,
    lanes: int,
    unroll: int,
    carried: list[Value],
    body: Callable[[Int, Int | None, int, list[Value]], list[Value]],
) -> list[Value]:
    """Cover [begin, end) by vectors; ``body(base, count, slot, carried)`` gives the next values.

    Whole groups of ``unroll`` vectors (slots 0, 1, ...), then single vectors, then one partial
    vector with ``count`` set. ``lanes`` 0 runs element by element.
    """
    ix = Index(e)
    step = max(lanes, 1)
    length = ix.sub(end, begin)

    def single(i: Value, now: list[Value]) -> list[Value]:
        return body(i, None, 0, now)

    def group(i: Value, now: list[Value]) -> list[Value]:
        for slot in range(unroll):
            now = body(ix.add(i, slot * step), None, slot, now)
        return now

    grouped = begin
    if unroll > 1:
        grouped = ix.add(begin, ix.round_down(length, unroll * step))
        carried = e.loop(begin, grouped, unroll * step, carried, group)
    whole = ix.add(begin, ix.round_down(length, step))
    carried = e.loop(grouped, whole, step, carried, single)
    if step == 1:
        return carried

    def tail(i: Value, now: list[Value]) -> list[Value]:
        return body(i, ix.sub(end, i), 0, now)

    if isinstance(length, int) and length % step == 0:
        return carried
    return e.loop(whole, end, step, carried, tail)

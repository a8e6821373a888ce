"""Regions without reductions: flat vector loops, and W x W blocks where a load is transposed."""

from __future__ import annotations

from tilewright.backends.llvm.emit.arith import Value
from tilewright.backends.llvm.emit.convert import storage, to_register
from tilewright.backends.llvm.emit.emit import Emit, Index, Int
from tilewright.backends.llvm.region import dims
from tilewright.backends.llvm.region.schedule import CHUNK, Schedule, lane_pieces
from tilewright.backends.llvm.region.scope import Frame, Scope, vector_loop
from tilewright.backends.llvm.region.spec import Load, Piece

MAX_COPIES = 9
"""Most copies of the inner loop made for pieces along outer axes (padding two axes takes nine)."""

LIGHT = 8
"""Bodies below this cost are unrolled: the loop overhead would be a good part of them."""


def decode(e: Emit, plan: Schedule, unit: Value) -> tuple[dict[int, Int], Int]:
    """Outer indices and block number of work unit ``unit``."""
    ix = Index(e)
    blocks = dims.emit(plan.blocks, e)
    rest: Int = ix.div(unit, blocks)
    block = ix.rem(unit, blocks) if not (isinstance(blocks, int) and blocks == 1) else 0
    if not plan.outer:
        return {}, unit
    index: dict[int, Int] = {}
    for axis in reversed(plan.outer[1:]):
        extent = dims.emit(plan.spec.domain[axis], e)
        index[axis] = ix.rem(rest, extent)
        rest = ix.div(rest, extent)
    index[plan.outer[0]] = rest
    return index, block


def _outer_pieces(plan: Schedule) -> list[tuple[int, tuple[dims.Dim, ...], list[int]]]:
    """(axis, starts, nodes) of the pieces along outer axes that get a copy of the inner loop for
    every arm, as long as `MAX_COPIES` allows; others branch at every vector."""
    groups: dict[tuple[int, tuple[dims.Dim, ...]], list[int]] = {}
    for i, node in enumerate(plan.spec.body):
        if isinstance(node, Piece) and (node.axis != plan.lane or not plan.lanes):
            groups.setdefault((node.axis, node.starts), []).append(i)
    chosen, copies = [], 1
    for (axis, starts), nodes in groups.items():
        if axis != plan.lane and copies * (len(starts) + 1) <= MAX_COPIES:
            copies *= len(starts) + 1
            chosen.append((axis, starts, nodes))
    return chosen


def emit_pointwise(e: Emit, plan: Schedule) -> None:
    """A unit is one row, or `CHUNK` elements of a long one."""
    ix = Index(e)
    spec, lane = plan.spec, plan.lane
    frame = Frame(e, spec, plan.facts, lane, plan.lanes)
    roots = [s.value for s in spec.outputs]
    cost = max(plan.facts.cost[r] for r in roots)
    pieces = lane_pieces(spec, lane) if plan.lanes else []
    starts = next((n.starts for n in [spec.body[i] for i in pieces] if isinstance(n, Piece)), ())
    outer = _outer_pieces(plan)
    unroll = 4 if cost < LIGHT and not outer else 1

    def line(index: dict[int, Int], low: Int, high: Int, outer_arms: dict[int, int]) -> None:
        row = Scope(frame, None, index, arms=outer_arms)
        row.hoist(roots)
        for arm in range(len(starts) + 1):
            first = low if arm == 0 else ix.max(low, dims.emit(starts[arm - 1], e))
            last = high if arm == len(starts) else ix.min(high, dims.emit(starts[arm], e))
            if starts:
                last = ix.max(first, last)  # a piece outside this chunk is empty, not negative
            arms = {**outer_arms, **dict.fromkeys(pieces, arm)}

            def body(
                base: Int,
                count: Int | None,
                slot: int,
                now: list[Value],
                arms: dict[int, int] = arms,
            ) -> list[Value]:
                point = row.inner({lane: base}, count)
                point.arms.update(arms)
                for number, store in enumerate(spec.outputs):
                    point.store(number, store)
                return now

            vector_loop(e, first, last, plan.lanes, unroll, [], body)

    def choose(
        level: int, index: dict[int, Int], low: Int, high: Int, arms: dict[int, int]
    ) -> list[Value]:
        """The row's loop under branches that fix the arms of the outer pieces."""
        if level == len(outer):
            line(index, low, high, arms)
            return []
        axis, bounds, nodes = outer[level]

        def arm(k: int) -> list[Value]:
            def this() -> list[Value]:
                return choose(level + 1, index, low, high, {**arms, **dict.fromkeys(nodes, k)})

            if k == len(bounds):
                return this()
            return e.branch(ix.lt(index[axis], dims.emit(bounds[k], e)), this, lambda: arm(k + 1))

        return arm(0)

    def unit_body(unit: Value, _: list[Value]) -> list[Value]:
        index, block = decode(e, plan, unit)
        extent = dims.emit(spec.domain[lane], e)
        low = ix.mul(block, CHUNK)
        high: Int = extent
        if not (isinstance(extent, int) and extent <= CHUNK):
            high = ix.min(extent, ix.add(low, CHUNK))
        return choose(0, index, low, high, {})

    e.loop(e.begin, e.end, 1, [], unit_body)


def transpose(e: Emit, rows: list[Value]) -> list[Value]:
    """Transpose W vectors of W lanes in log2(W) rounds of two-input shuffles."""
    lanes = len(rows)
    now, half = list(rows), 1
    while half < lanes:
        out = list(now)
        for i in range(lanes):
            if i & half:
                continue
            low, high = now[i], now[i + half]
            out[i] = e.shuffle(
                low, high, [j if not j & half else lanes + j - half for j in range(lanes)]
            )
            out[i + half] = e.shuffle(
                low, high, [j + half if not j & half else lanes + j for j in range(lanes)]
            )
        now, half = out, 2 * half
    return now


def emit_blocked(e: Emit, plan: Schedule) -> None:
    """A unit is a strip of W indices along the block axis; it is covered by W x W blocks.

    Loads contiguous along the block axis are read as W vectors and transposed in registers.
    Partial blocks mask loads and stores; row numbers beyond the edge are clamped, and not stored.
    """
    ix = Index(e)
    spec, lane, block_axis, lanes = plan.spec, plan.lane, plan.block, plan.lanes
    frame = Frame(e, spec, plan.facts, lane, lanes)
    turned = [
        i
        for i, n in enumerate(spec.body)
        if isinstance(n, Load)
        and n.strides[block_axis] == 1
        and n.strides[lane] not in (0, 1)
        and not n.gathers
    ]

    def unit_body(unit: Value, _: list[Value]) -> list[Value]:
        index, strip = decode(e, plan, unit)
        width = dims.emit(spec.domain[lane], e)
        height = dims.emit(spec.domain[block_axis], e)
        top = ix.mul(strip, lanes)
        rows = ix.min(lanes, ix.sub(height, top))

        def block(base: Int, columns: Int | None, full: bool) -> None:
            loaded: dict[int, list[Value]] = {}
            for i in turned:
                loaded[i] = transpose(e, read(i, base, columns, full))
            for k in range(lanes):
                place = ix.add(top, k)
                if not full:
                    place = ix.min(place, ix.sub(height, 1))
                point = Scope(frame, None, {**index, block_axis: place, lane: base})
                if not full:
                    width_here = columns if columns is not None else lanes
                    inside = ix.lt(k, rows)
                    point.count = e.select(inside, ix.value(width_here), ix.value(0))
                for i in turned:
                    point.memo[i] = to_register(e, loaded[i][k], spec.inputs[load_of(i).input])
                for number, store in enumerate(spec.outputs):
                    point.store(number, store)

        def load_of(i: int) -> Load:
            node = spec.body[i]
            assert isinstance(node, Load)
            return node

        def read(i: int, base: Int, columns: Int | None, full: bool) -> list[Value]:
            load = load_of(i)
            start = Scope(frame, None, {**index, block_axis: top, lane: base})
            first = start.offset_of(load.strides, load.offset)
            step = dims.emit(load.strides[lane], e)
            kind = storage(e, spec.inputs[load.input])
            vectors = []
            for j in range(lanes):
                count: Int | None = None
                if not full:
                    limit = columns if columns is not None else lanes
                    count = e.select(ix.lt(j, limit), ix.value(rows), ix.value(0))
                place = ix.add(first, ix.mul(j, step))
                vectors.append(e.load(e.arg(load.input), place, kind, lanes, count))
            return vectors

        def body(base: Int, count: Int | None, slot: int, now: list[Value]) -> list[Value]:
            if count is not None:
                block(base, count, full=False)
                return now

            def whole() -> list[Value]:
                block(base, None, full=True)
                return []

            def partial() -> list[Value]:
                block(base, None, full=False)
                return []

            if isinstance(height, int) and height % lanes == 0:
                whole()
            else:
                e.branch(ix.lt(rows, lanes), partial, whole)
            return now

        vector_loop(e, 0, width, lanes, 1, [], body)
        return []

    e.loop(e.begin, e.end, 1, [], unit_body)

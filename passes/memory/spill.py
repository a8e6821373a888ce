"""Running within a cap below the peak: which tensors leave the arena when, and where they lie.

The integer program is COSMA's for a fixed order (arXiv 2311.18246): in every slot a tensor is
created, kept, spilled, retrieved or absent; the bytes moved are minimized. Its offset rows, which
need a large constant per pair and slot, are replaced by logic-based Benders cuts (Hooker and
Ottosson, 2003): the exact packer places the stays that the program chose, and where no packing
exists, the program learns that the stays of an irreducible part cannot all be there.
"""

import contextlib
import time
from collections.abc import Sequence
from dataclasses import replace

from tilewright.passes.memory.blocking import blocking
from tilewright.passes.memory.dag import Dag, bits, peak
from tilewright.passes.memory.exact import decide
from tilewright.passes.memory.greedy import pack_greedy
from tilewright.passes.memory.milp import Milp
from tilewright.passes.memory.problem import Buffer, height
from tilewright.passes.memory.search import Undecided
from tilewright.passes.memory.stays import SpillPlan, Stay, replay

EXACT_TENSORS = 40
"""Tensors with bytes, beyond which the integer program is not tried."""

CUTS = 50
"""Cuts that the packer may add to the integer program."""

WORK = 200_000
"""Nodes times buffers that a search for offsets may spend."""


def plan_spills(
    dag: Dag, cap: int, seconds: float = 60.0, nodes: int = 1000, unit: int = 1
) -> SpillPlan | None:
    """A plan that runs the steps in the order given within `cap` bytes; None if there is none.

    There is none just when `cap` is below M_R, `dag.working_set`. Tensors that no step makes start
    outside the arena and are retrieved, which counts as traffic; those in `dag.kept` must be in the
    arena at the end or spilled. The least traffic is proven for up to `EXACT_TENSORS` tensors if
    `nodes` of branch and bound suffice, or `seconds`; otherwise tensors whose next use is farthest
    leave first (Belady 1966). Sizes are multiples of `unit` bytes.
    """
    if cap < dag.working_set:
        return None
    small = Dag(dag.ops, tuple(size // unit for size in dag.sizes), dag.kept)
    plan = _plan(small, cap // unit, time.monotonic() + seconds, nodes)
    replay(small, plan)
    stays = tuple(replace(s, offset=s.offset * unit) for s in plan.stays)
    return SpillPlan(cap, stays, plan.traffic * unit, plan.bound * unit)


def _plan(dag: Dag, cap: int, deadline: float, nodes: int) -> SpillPlan:
    best, bound = _farthest_first(dag, cap), overflow(dag, cap)
    if best.traffic == bound or sum(size > 0 for size in dag.sizes) > EXACT_TENSORS:
        return SpillPlan(cap, best.stays, best.traffic, bound)
    program = _Program(dag, cap)
    for _ in range(CUTS):
        left = deadline - time.monotonic()
        answer = program.milp.solve(left, nodes)
        if answer.values is None:
            break
        stays = program.stays(answer.values)
        moved = _traffic(dag, stays)
        if answer.status == "optimal":
            bound = max(bound, moved)
        if best.traffic <= bound:
            break
        buffers = _buffers(dag, stays)
        try:
            offsets = decide(buffers, cap, left, _nodes(buffers))
            if offsets is not None:
                if moved <= best.traffic:
                    best = SpillPlan(cap, _at(stays, offsets), moved, 0)
                break
            part = blocking(buffers, cap, left, _nodes(buffers))
        except Undecided:
            break
        program.forbid([stays[k] for k in part])
    return SpillPlan(cap, best.stays, best.traffic, min(best.traffic, bound))


def _nodes(buffers: Sequence[Buffer]) -> int:
    return max(WORK // max(len(buffers), 1), 4 * len(buffers))


def overflow(dag: Dag, cap: int) -> int:
    """Bytes that every plan moves: tensors that start outside, or what does not fit at one step.

    What is alive then and does not fit has left, and comes back, as somebody needs it later.
    """
    outside = [t for t in range(len(dag.sizes)) if t not in dag.maker and dag.readers[t]]
    must = sum(dag.sizes[t] for t in outside)
    if outside or dag.kept:
        return must  # it may have never come, or need not come back
    return max(must, 2 * max(peak(dag, range(len(dag.ops))) - cap, 0))


class _Program:
    """Columns by tensor and slot: kept P, spilled before the slot S, retrieved R.

    Created C is a constant: 1 in the slot of the tensor's step.
    """

    def __init__(self, dag: Dag, cap: int) -> None:
        self.dag, self.milp = dag, Milp()
        self.slots = len(dag.ops)
        self.kept: dict[tuple[int, int], int] = {}
        self.spilled: dict[tuple[int, int], int] = {}
        self.retrieved: dict[tuple[int, int], int] = {}
        memory: list[list[tuple[int, float]]] = [[] for _ in range(self.slots)]
        fixed = [0] * self.slots
        for t, size in enumerate(dag.sizes):
            self._columns(t)
            for s in range(self.slots):
                memory[s] += [(column, size) for column in self._here(t, s)]
                fixed[s] += size * (dag.maker.get(t) == s)
        for terms, used in zip(memory, fixed, strict=True):
            self.milp.row(terms, high=cap - used)

    def _columns(self, t: int) -> None:
        dag, milp, size = self.dag, self.milp, self.dag.sizes[t]
        readers = bits(dag.readers[t])
        made = dag.maker.get(t, -1)
        last = self.slots - 1 if t in dag.kept else max(readers, default=-1)
        for s in range(made + 1, last + 1):
            self.kept[t, s] = milp.column(high=float(s > 0))
            self.retrieved[t, s] = milp.column(cost=size)
            milp.row([(self.kept[t, s], 1), (self.retrieved[t, s], 1)], high=1)
        # A copy outside serves until the tensor changes: one is enough for each version.
        outgoing: dict[int, list[tuple[int, float]]] = {}
        for s in range(made + 1, last + 1 + (t in dag.kept)):
            version = dag.version(t, s)
            if version >= 0:
                self.spilled[t, s] = milp.column(cost=size)
                outgoing.setdefault(version, []).append((self.spilled[t, s], 1))
        for terms in outgoing.values():
            milp.row(terms, high=1)
        for s in range(made + 1, last + 1):
            before = [(c, -1.0) for c in self._here(t, s - 1)]
            milp.row([(self.kept[t, s], 1), *before], high=float(made == s - 1))
            version = dag.version(t, s)
            if version >= 0:
                span = range(version + 1, s + 1)
                earlier = [(self.spilled[t, k], -1.0) for k in span if (t, k) in self.spilled]
                milp.row([(self.retrieved[t, s], 1), *earlier], high=0)
        for (k, s), column in self.spilled.items():
            if k == t:  # only a copy that was resident, made or not yet dropped, can go out
                before = [(c, -1.0) for c in self._here(t, s - 1)]
                milp.row([(column, 1), *before], high=float(made == s - 1))
        for s in readers:
            if s != made:
                milp.row([(self.kept[t, s], 1), (self.retrieved[t, s], 1)], low=1)
        if t in dag.kept and dag.version(t, self.slots) >= 0:
            final = dag.version(t, self.slots)
            saved = [(c, 1.0) for (k, s), c in self.spilled.items() if k == t and s > final]
            there = [(c, 1.0) for c in self._here(t, last)]
            milp.row([*saved, *there], low=float(made != last))

    def _here(self, t: int, s: int) -> list[int]:
        return [c[t, s] for c in (self.kept, self.retrieved) if (t, s) in c]

    def stays(self, values: Sequence[float]) -> list[Stay]:
        """The stays that the program chose, all at offset 0."""
        found = []
        on = {key for key, c in self.kept.items() if values[c] > 0.5}
        out = {key for key, c in self.spilled.items() if values[c] > 0.5}
        starts = [(t, s, "retrieve") for (t, s), c in self.retrieved.items() if values[c] > 0.5]
        starts += [(t, s, "create") for t, s in self.dag.maker.items()]
        for t, first, arrival in sorted(starts):
            end = first + 1
            while (t, end) in on:
                end += 1
            spilled = any((t, s) in out for s in range(first + 1, end + 1))
            found.append(Stay(t, first, end, 0, arrival, spilled))
        return found

    def forbid(self, stays: Sequence[Stay]) -> None:
        """These stays, with the slots in which their tensors keep their address, cannot all be."""
        terms: list[tuple[int, float]] = []
        for stay in stays:
            if stay.end == stay.first + 1 and stay.arrival == "retrieve":
                # Whether it arrives or stays from before, it is here: the sum is at most 1.
                terms += [(c, 1.0) for c in self._here(stay.tensor, stay.first)]
            terms += [(self.kept[stay.tensor, s], 1.0) for s in range(stay.first + 1, stay.end)]
        count = sum(max(stay.end - stay.first - 1, stay.arrival == "retrieve") for stay in stays)
        self.milp.row(terms, high=count - 1)


def _farthest_first(dag: Dag, cap: int) -> SpillPlan:
    """A plan by Belady's rule; less is kept until the stays can be packed."""
    room = cap
    while True:
        stays = _belady(dag, room)
        buffers = _buffers(dag, stays)
        offsets = pack_greedy(buffers)
        if height(buffers, offsets) > cap:
            with contextlib.suppress(Undecided):
                offsets = decide(buffers, cap, 60.0, _nodes(buffers)) or offsets
        if height(buffers, offsets) <= cap:
            return SpillPlan(cap, _at(stays, offsets), _traffic(dag, stays), 0)
        # Below 0 nothing at all outlives its slot and the packing is a mere stack.
        room = max(room - max(room // 8, 1), -1)


def _belady(dag: Dag, room: int) -> list[Stay]:
    """Stays by slot: what the step needs, and what is used soonest while `room` bytes last.

    Where `room` is negative, what the next step needs is copied out and back too.
    """
    uses = [[*bits(mask)] for mask in dag.readers]
    open_: dict[int, tuple[int, str]] = {}
    outside = {t for t in range(len(dag.sizes)) if t not in dag.maker}
    found: list[Stay] = []

    def leave(t: int, slot: int, wanted: bool) -> None:
        first, arrival = open_.pop(t)
        found.append(Stay(t, first, slot, 0, arrival, wanted and t not in outside))
        if wanted:
            outside.add(t)

    end = len(dag.ops)
    for slot, op in enumerate(dag.ops):
        needed = {*op.reads, *op.writes}
        used = sum(dag.sizes[t] for t in needed)
        later = {t: next((u for u in uses[t] if u >= slot), end) for t in open_}
        for t in sorted(later, key=lambda t: (later[t], t)):
            alive = later[t] < end or t in dag.kept
            if room < 0 or (t not in needed and not (alive and used + dag.sizes[t] <= room)):
                leave(t, slot, alive)
            elif t not in needed:
                used += dag.sizes[t]
        for t in needed:
            if t not in open_:
                open_[t] = (slot, "create" if t in op.writes else "retrieve")
        outside.difference_update(op.updates)  # those copies are stale now
    for t in list(open_):
        leave(t, end, False)
    return found


def _buffers(dag: Dag, stays: Sequence[Stay]) -> list[Buffer]:
    return [Buffer(f"{s.tensor}@{s.first}", s.first, s.end, dag.sizes[s.tensor]) for s in stays]


def _at(stays: Sequence[Stay], offsets: Sequence[int]) -> tuple[Stay, ...]:
    return tuple(
        Stay(s.tensor, s.first, s.end, offset, s.arrival, s.spilled)
        for s, offset in zip(stays, offsets, strict=True)
    )


def _traffic(dag: Dag, stays: Sequence[Stay]) -> int:
    return sum(dag.sizes[s.tensor] * ((s.arrival == "retrieve") + s.spilled) for s in stays)

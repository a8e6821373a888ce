"""Running within a cap below the peak: which tensors leave the arena when, and where they lie.

The integer program is COSMA's for a fixed order (arXiv 2311.18246): in every slot a tensor is
created, kept, spilled, retrieved or absent; the bytes moved are minimized. Its offset rows, which
need a large constant per pair and slot, are replaced by logic-based Benders cuts (Hooker and
Ottosson, 2003): the exact packer places the stays that the program chose, and where no packing
exists, the program learns that the stays of an irreducible part cannot all be there.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from tilewright.passes.memory.blocking import blocking
from tilewright.passes.memory.dag import Dag, bits
from tilewright.passes.memory.exact import decide
from tilewright.passes.memory.milp import Milp
from tilewright.passes.memory.problem import Buffer, PlanError
from tilewright.passes.memory.search import Undecided

EXACT_TENSORS = 40


@dataclass(frozen=True)
class Stay:
    """A tensor at `offset` (bytes) in the slots first <= s < end.

    It gets there by its step (`create`) or from outside the arena (`retrieve`). `spilled` says that
    it is copied out at the end; otherwise it is dropped, as nobody needs it or a copy exists.
    """

    tensor: int
    first: int
    end: int
    offset: int
    arrival: str
    spilled: bool


@dataclass(frozen=True)
class SpillPlan:
    """Stays within `cap` bytes for the steps of a graph in order; slot s belongs to step s.

    traffic: bytes spilled and retrieved;  bound: no plan for this order moves fewer
    """

    cap: int
    stays: tuple[Stay, ...]
    traffic: int
    bound: int

    @property
    def proven(self) -> bool:
        """Whether no plan for this order and cap moves fewer bytes."""
        return self.traffic == self.bound

    def actions(self) -> list[tuple[int, str, int]]:
        """(slot, action, tensor) in the order to carry out: spill, retrieve, keep, create.

        A spill at slot s comes before step s; one at the number of steps comes after the last.
        """
        found = []
        for stay in self.stays:
            found.append((stay.first, stay.arrival, stay.tensor))
            found += [(s, "keep", stay.tensor) for s in range(stay.first + 1, stay.end)]
            if stay.spilled:
                found.append((stay.end, "spill", stay.tensor))
        rank = {"spill": 0, "retrieve": 1, "keep": 2, "create": 3}
        return sorted(found, key=lambda a: (a[0], rank[a[1]], a[2]))


def plan_spills(dag: Dag, cap: int, seconds: float = 10.0) -> SpillPlan | None:
    """A plan that runs the steps in the order given within `cap` bytes; None if there is none.

    There is none just when `cap` is below M_R, `dag.working_set`. Tensors that no step makes start
    outside the arena and are retrieved, which counts as traffic; those in `dag.kept` must be in the
    arena at the end or spilled. The least traffic is proven for up to `EXACT_TENSORS` tensors if
    `seconds` suffice; otherwise tensors whose next use is farthest leave first (Belady 1966).
    """
    if cap < dag.working_set:
        return None
    deadline = time.monotonic() + seconds
    best, bound = _farthest_first(dag, cap, seconds / 4), 0
    if len(dag.sizes) > EXACT_TENSORS:
        return SpillPlan(cap, best.stays, best.traffic, _must_move(dag))
    program = _Program(dag, cap)
    while (left := deadline - time.monotonic()) > 0:
        answer = program.milp.solve(left)
        if answer.values is None:
            break
        stays = program.stays(answer.values)
        moved = _traffic(dag, stays)
        if answer.status == "optimal":
            bound = max(bound, moved)
        if best.traffic <= bound:
            break
        try:
            offsets = decide(_buffers(dag, stays), cap, max(deadline - time.monotonic(), 0.0))
            if offsets is not None:
                if moved <= best.traffic:
                    best = SpillPlan(cap, _at(stays, offsets), moved, 0)
                break
            part = blocking(_buffers(dag, stays), cap, max(deadline - time.monotonic(), 0.0))
        except Undecided:
            break
        program.forbid([stays[k] for k in part])
    return SpillPlan(cap, best.stays, best.traffic, min(best.traffic, max(bound, _must_move(dag))))


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
        if made >= 0:
            for s in range(made + 1, last + 1 + (t in dag.kept)):
                self.spilled[t, s] = milp.column(cost=size)
            milp.row([(c, 1) for (k, _), c in self.spilled.items() if k == t], high=1)
        for s in range(made + 1, last + 1):
            before = [(c, -1.0) for c in self._here(t, s - 1)]
            milp.row([(self.kept[t, s], 1), *before], high=float(made == s - 1))
            if made >= 0:
                earlier = [(self.spilled[t, k], -1.0) for k in range(made + 1, s + 1)]
                milp.row([(self.retrieved[t, s], 1), *earlier], high=0)
        for (k, s), column in self.spilled.items():
            if k == t:  # only a copy that was resident, made or not yet dropped, can go out
                before = [(c, -1.0) for c in self._here(t, s - 1)]
                milp.row([(column, 1), *before], high=float(made == s - 1))
        for s in readers:
            if s != made:
                milp.row([(self.kept[t, s], 1), (self.retrieved[t, s], 1)], low=1)
        if t in dag.kept and made >= 0:
            saved = [(c, 1.0) for (k, _), c in self.spilled.items() if k == t]
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


def _farthest_first(dag: Dag, cap: int, seconds: float) -> SpillPlan:
    """A plan by Belady's rule; less is kept until the stays can be packed."""
    deadline, room = time.monotonic() + seconds, cap
    while True:
        stays = _belady(dag, room)
        left = deadline - time.monotonic()
        try:
            offsets = decide(_buffers(dag, stays), cap, max(left, 0.2))
        except Undecided:
            offsets = None
        if offsets is not None:
            return SpillPlan(cap, _at(stays, offsets), _traffic(dag, stays), 0)
        # At 0 nothing outlives its slot and every packing is a mere stack.
        room = 0 if left <= 0 else room - max(room // 8, 1)


def _belady(dag: Dag, room: int) -> list[Stay]:
    """Stays by slot: what the step needs, and what is used soonest while `room` bytes last."""
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
            if t not in needed:
                if alive and used + dag.sizes[t] <= room:
                    used += dag.sizes[t]
                else:
                    leave(t, slot, alive)
        for t in needed:
            if t not in open_:
                open_[t] = (slot, "create" if t in op.writes else "retrieve")
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


def _must_move(dag: Dag) -> int:
    """Bytes that every plan moves: tensors that start outside and are read."""
    return sum(size for t, size in enumerate(dag.sizes) if t not in dag.maker and dag.readers[t])


def replay(dag: Dag, plan: SpillPlan) -> int:
    """Carry out `plan` on an arena of one cell per byte and return the bytes moved.

    Every cell holds the tensor written there last, so overlaps, moves and reads of what is gone
    show. Raises `PlanError` at the first step that does not find its inputs whole.
    """
    arena: list[int | None] = [None] * plan.cap
    where: dict[int, int] = {}
    outside = {t for t in range(len(dag.sizes)) if t not in dag.maker}
    moved = 0

    def whole(t: int) -> bool:
        return t in where and arena[where[t] : where[t] + dag.sizes[t]] == [t] * dag.sizes[t]

    def write(stay: Stay) -> None:
        span = slice(stay.offset, stay.offset + dag.sizes[stay.tensor])
        if stay.offset < 0 or stay.offset + dag.sizes[stay.tensor] > plan.cap:
            raise PlanError(f"tensor {stay.tensor} leaves the arena in slot {stay.first}")
        arena[span] = [stay.tensor] * dag.sizes[stay.tensor]
        where[stay.tensor] = stay.offset

    for slot in range(len(dag.ops) + 1):
        for stay in plan.stays:
            if stay.end == slot and stay.spilled:
                if not whole(stay.tensor):
                    raise PlanError(f"tensor {stay.tensor} is not whole when it is spilled")
                outside.add(stay.tensor)
                moved += dag.sizes[stay.tensor]
        for stay in plan.stays:
            if stay.end == slot and slot < len(dag.ops):
                where.pop(stay.tensor, None)
        if slot == len(dag.ops):
            break
        arrivals = [stay for stay in plan.stays if stay.first == slot]
        for stay in arrivals:
            if stay.arrival == "retrieve":
                if stay.tensor not in outside:
                    raise PlanError(f"tensor {stay.tensor} was not spilled before slot {slot}")
                write(stay)
                moved += dag.sizes[stay.tensor]
        for stay in arrivals:
            if stay.arrival == "create":
                write(stay)
        op = dag.ops[slot]
        for t in (*op.reads, *op.writes):
            if not whole(t):
                raise PlanError(f"tensor {t} is not whole in slot {slot}")
    for t in dag.kept:
        if t not in outside and not whole(t):
            raise PlanError(f"tensor {t} is lost at the end")
    return moved

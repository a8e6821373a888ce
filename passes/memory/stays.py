"""Which tensors are in a capped arena at which steps, and an independent check by replay."""

from dataclasses import dataclass

from tilewright.passes.memory.dag import Dag
from tilewright.passes.memory.problem import PlanError


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


def replay(dag: Dag, plan: SpillPlan) -> int:
    """Carry out `plan` on an arena of cells and return the bytes moved.

    A cell is what lies between two ends of stays. It holds the tensor written there last and its
    version, so overlaps, moves and reads of what is gone or stale show. Raises `PlanError` at the
    first step that does not find its inputs whole.
    """
    ends = {s.offset + end for s in plan.stays for end in (0, dag.sizes[s.tensor])}
    cell = {end: position for position, end in enumerate(sorted(ends))}
    arena: list[tuple[int, int] | None] = [None] * len(cell)
    where: dict[int, int] = {}
    version = [0] * len(dag.sizes)
    outside = {t: 0 for t in range(len(dag.sizes)) if t not in dag.maker}
    moved = 0

    def cells(t: int) -> slice:
        return slice(cell[where[t]], cell[where[t] + dag.sizes[t]])

    def whole(t: int) -> bool:
        return t in where and all(found == (t, version[t]) for found in arena[cells(t)])

    def fill(t: int) -> None:
        span = cells(t)
        arena[span] = [(t, version[t])] * (span.stop - span.start)

    def write(stay: Stay) -> None:
        if stay.offset < 0 or stay.offset + dag.sizes[stay.tensor] > plan.cap:
            raise PlanError(f"tensor {stay.tensor} leaves the arena in slot {stay.first}")
        where[stay.tensor] = stay.offset
        fill(stay.tensor)

    for slot in range(len(dag.ops) + 1):
        for stay in plan.stays:
            if stay.end == slot and stay.spilled:
                if not whole(stay.tensor):
                    raise PlanError(f"tensor {stay.tensor} is not whole when it is spilled")
                outside[stay.tensor] = version[stay.tensor]
                moved += dag.sizes[stay.tensor]
        for stay in plan.stays:
            if stay.end == slot and slot < len(dag.ops):
                where.pop(stay.tensor, None)
        if slot == len(dag.ops):
            break
        arrivals = [stay for stay in plan.stays if stay.first == slot]
        for stay in arrivals:
            if stay.arrival == "retrieve":
                if outside.get(stay.tensor) != version[stay.tensor]:
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
        for t in op.updates:
            version[t] += 1
            fill(t)
    for t in dag.kept:
        if outside.get(t) != version[t] and not whole(t):
            raise PlanError(f"tensor {t} is lost at the end")
    return moved

"""Work in a small part of the arena: which rows of a program are copied out of it, and when."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from tilewright.passes.memory.caps import refuse_steps
from tilewright.passes.memory.dag import from_accesses
from tilewright.passes.memory.exact import pack_exact
from tilewright.passes.memory.greedy import pack_greedy
from tilewright.passes.memory.problem import ALIGNMENT, Buffer, height, max_live, validate
from tilewright.passes.memory.spill import plan_spills

WORK = 200_000
"""Nodes times buffers that a search for offsets may spend."""


class Access(Protocol):
    """What a step touches: rows by number, then places without bytes.

    It takes the numbers first <= t < end that lifetimes count in: more than one if it has steps
    inside.
    """

    @property
    def reads(self) -> Collection[int]: ...
    @property
    def writes(self) -> Collection[int]: ...
    @property
    def first(self) -> int: ...
    @property
    def end(self) -> int: ...


@dataclass(frozen=True)
class Visit:
    """A row at `offset` (bytes) of the fast part while the steps first <= s < end run."""

    row: int
    first: int
    end: int
    offset: int
    retrieved: bool
    spilled: bool


@dataclass(frozen=True)
class Traffic:
    """What keeping to `fast` bytes costs in a run: bytes copied out and back.

    bound: no plan for this order and cap copies fewer
    """

    fast: int
    copied: int
    bound: int

    def conclusion(self) -> str:
        """What the numbers prove, in one sentence."""
        least = (
            "the fewest for this order"
            if self.copied == self.bound
            else (f"no plan for this order copies fewer than {self.bound:,} B")
        )
        return f"steps work in {self.fast:,} B; a run copies {self.copied:,} B: {least}"


def plan_visits(
    accesses: Sequence[Access], rows: Sequence[Buffer], cap: int
) -> tuple[list[Visit], Traffic]:
    """Where every row is at every step so that all that steps touch lies below `cap` bytes.

    Raises UserError if one step alone touches more.
    """
    touched: list[tuple[set[int], set[int]]] = []
    count = 1 + max((p for a in accesses for p in (*a.reads, *a.writes)), default=-1)
    sizes = [row.size for row in rows] + [0] * (count - len(rows))
    insides: dict[int, dict[int, int]] = {}
    for access in accesses:
        reads, writes = set(access.reads), set(access.writes)
        own = inside(access, rows)
        if own:
            offsets = _packed([rows[i] for i in own])
            insides[len(sizes)] = dict(zip(own, offsets, strict=True))
            reads, writes = reads - set(own), (writes - set(own)) | {len(sizes)}
            sizes.append(height([rows[i] for i in own], offsets))
        touched.append((reads, writes))
    dag = from_accesses(touched, sizes)
    plan = plan_spills(dag, cap // ALIGNMENT * ALIGNMENT, unit=ALIGNMENT)
    if plan is None:
        refuse_steps(cap, dag, rows)
    found: list[Visit] = []
    for stay in plan.stays:
        t, moves = stay.tensor, dag.sizes[stay.tensor] > 0
        if t in insides:
            for row, offset in insides[t].items():
                at = stay.offset + offset
                found.append(Visit(row, stay.first, stay.end, at, False, False))
        elif t < len(rows):
            back = moves and stay.arrival == "retrieve"
            out = moves and stay.spilled
            found.append(Visit(t, stay.first, stay.end, stay.offset, back, out))
    return found, Traffic(cap, plan.traffic, plan.bound)


def inside(access: Access, rows: Sequence[Buffer]) -> list[int]:
    """The rows that live within a step that has steps inside, and nowhere else."""
    if access.end - access.first == 1:
        return []
    return [
        i
        for i, r in enumerate(rows)
        if access.first <= r.lower and r.upper <= access.end and r.lower < r.upper
    ]


def place_rest(rows: Sequence[Buffer], fixed: Sequence[int | None], fast: int) -> list[int]:
    """Offsets of all rows: the fixed ones, and the others packed above `fast` bytes."""
    rest = [i for i, offset in enumerate(fixed) if offset is None]
    above = -(-fast // ALIGNMENT) * ALIGNMENT
    offsets = [0 if offset is None else offset for offset in fixed]
    for i, offset in zip(rest, _packed([rows[i] for i in rest]), strict=True):
        offsets[i] = above + offset
    validate(rows, offsets, height(rows, offsets), ALIGNMENT)
    return offsets


def _packed(chosen: Sequence[Buffer]) -> list[int]:
    offsets = pack_greedy(chosen)
    if height(chosen, offsets) > max_live(chosen):
        offsets, _ = pack_exact(chosen, offsets, 60.0, max(WORK // len(chosen), 4 * len(chosen)))
    return offsets

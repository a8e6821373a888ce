"""A program whose steps work in a small part of the arena: copies to and from the rest of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from tilewright.backends.llvm.program import (
    Branch,
    BufferInfo,
    Copy,
    Launch,
    Place,
    Program,
    Repeat,
    Step,
)
from tilewright.backends.llvm.schedule import Arrangement, Visit, arrange


@dataclass(frozen=True)
class Evicted:
    """The program with its copies, and for every row its offset if the visits decide it.

    Rows without one hold what is copied out.
    """

    arrangement: Arrangement
    offsets: tuple[int | None, ...]


def evict(arrangement: Arrangement, visits: Sequence[Visit]) -> Evicted:
    """Give every visit a buffer of its own and put the copies between the steps.

    Copies out come before copies in: they may leave the place that is filled.
    """
    program = arrangement.program
    buffers: list[BufferInfo] = []
    offsets: list[int | None] = []

    def buffer(row: int, name: str, offset: int | None) -> Place:
        size = arrangement.rows[row].bytes
        buffers.append(BufferInfo(name.format(arrangement.rows[row].name), size))
        offsets.append(offset)
        return Place("arena", len(buffers) - 1)

    homes: dict[int, Place] = {}
    for visit in visits:
        if visit.spilled and visit.row not in homes:
            homes[visit.row] = buffer(visit.row, "{} (copied out)", None)
    here: list[dict[int, Place]] = [{} for _ in program.steps]
    out: list[list[Copy]] = [[] for _ in range(len(program.steps) + 1)]
    back: list[list[Copy]] = [[] for _ in program.steps]
    for visit in sorted(visits, key=lambda v: (v.first, v.row)):
        place = buffer(visit.row, "{}", visit.offset)
        size = arrangement.rows[visit.row].bytes
        for at in range(visit.first, visit.end):
            here[at][visit.row] = place
        if visit.retrieved:
            back[visit.first].append(Copy(homes[visit.row], place, size))
        if visit.spilled:
            out[visit.end].append(Copy(place, homes[visit.row], size))
    steps: list[Step] = []
    for i, step in enumerate(program.steps):
        rows = here[i]

        def moved(place: Place, rows: dict[int, Place] = rows) -> Place:
            if place.kind != "arena":
                return place
            return replace(place, index=rows[arrangement.row_of[place.index]].index)

        steps += [*out[i], *back[i], _rewrite(step, moved)]
    steps += out[-1]
    made = Program(buffers, steps, program.counters)
    return Evicted(arrange(made, range(len(buffers))), tuple(offsets))


def _rewrite(step: Step, moved: Callable[[Place], Place]) -> Step:
    def block(steps: tuple[Step, ...]) -> tuple[Step, ...]:
        return tuple(_rewrite(inner, moved) for inner in steps)

    if isinstance(step, Launch):
        return replace(step, operands=tuple(map(moved, step.operands)))
    if isinstance(step, Copy):
        return replace(step, source=moved(step.source), target=moved(step.target))
    if isinstance(step, Branch):
        return Branch(moved(step.condition), block(step.then), block(step.otherwise))
    assert isinstance(step, Repeat)
    condition = None if step.condition is None else moved(step.condition)
    return replace(step, condition=condition, body=block(step.body))

"""Which launches share a parallel region: at the same time where they may, else step after step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from tilewright.backends.llvm.program import Branch, Launch, Place, Repeat, Step
from tilewright.backends.llvm.schedule import Lifetime
from tilewright.compiler.ir.dims import Dim

LONGEST = 64
"""Launches of a region at most: its table lies on the caller's stack, 384 bytes a launch."""


@dataclass(frozen=True)
class Memory:
    """Where the finished plan has every arena buffer: its row, the rows' lives and offsets."""

    row_of: tuple[int, ...]
    rows: tuple[Lifetime, ...]
    offsets: tuple[Dim, ...]

    def apart(self, one: Place, other: Place) -> bool:
        """Whether two places have no byte in common, for sure and at all sizes.

        Rows that are alive at one step have different bytes, or the plan would be wrong. The same
        goes for what lies at known offsets. A caller's outputs are different memory.
        """
        if one.kind != other.kind:
            return True
        if one.kind != "arena":
            return one.index != other.index
        a, b = self.row_of[one.index], self.row_of[other.index]
        if a == b:
            return False
        first, second = self.rows[a], self.rows[b]
        if first.lower < second.upper and second.lower < first.upper:
            return True
        known = (self.offsets[a], first.bytes, self.offsets[b], second.bytes)
        starts = [x for x in known if isinstance(x, int)]
        if len(starts) < len(known):
            return False
        at, size, other_at, other_size = starts
        return at + size <= other_at or other_at + other_size <= at


def merge(steps: Sequence[Step], memory: Memory) -> list[Step]:
    """Steps whose launches say how they are joined to the launch before.

    A launch runs beside the one before if neither writes what the other touches, by the finished
    plan. Copies, branches and loops end a region, and so do launches that decide a size: what
    follows needs it for its arguments.
    """
    found: list[Step] = []
    region: list[Launch] = []
    together: list[Launch] = []
    for step in steps:
        if not isinstance(step, Launch):
            region, together = [], []
            found.append(_inside(step, memory))
            continue
        joint = ""
        if region and len(region) < LONGEST:
            joint = "beside" if all(_independent(step, x, memory) for x in together) else "after"
        region = [*region, step] if joint else [step]
        together = [*together, step] if joint == "beside" else [step]
        found.append(replace(step, joint=joint))
        if step.counts:
            region, together = [], []
    return found


def _inside(step: Step, memory: Memory) -> Step:
    def block(steps: Sequence[Step]) -> tuple[Step, ...]:
        return tuple(merge(steps, memory))

    if isinstance(step, Branch):
        return replace(step, then=block(step.then), otherwise=block(step.otherwise))
    return replace(step, body=block(step.body)) if isinstance(step, Repeat) else step


def _independent(one: Launch, other: Launch, memory: Memory) -> bool:
    return all(
        memory.apart(launch.operands[w], place) or _other_columns(launch, w, against, i)
        for launch, against in ((one, other), (other, one))
        for w in launch.writes
        for i, place in enumerate(against.operands)
    )


def _other_columns(one: Launch, written: int, other: Launch, touched: int) -> bool:
    """Whether two launches write different columns of one matrix."""
    if one.columns is None or other.columns is None or touched not in other.writes:
        return False
    a, b = one.operands[written], other.operands[touched]
    same = (a.kind, a.index) == (b.kind, b.index)
    (begin, end), (other_begin, other_end) = one.columns, other.columns
    return same and (end <= other_begin or other_end <= begin)

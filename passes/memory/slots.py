"""Placement when sizes are known only at run time: slots shared by buffers that never meet.

Each slot is as large as its largest member, so the plan holds for every value of the symbols; the
artifact computes slot sizes and their prefix sums when the shapes of a run are known. Members are
chosen greedily at `nominal` sizes.
"""

from collections.abc import Sequence

from tilewright.passes.memory.problem import Buffer


def assign_slots(buffers: Sequence[Buffer]) -> list[int]:
    """The slot of every buffer; `Buffer.size` is the nominal size that guides the choice.

    Buffers take their turn by falling size; each joins the first slot (made in that order, so never
    smaller at nominal sizes) whose members it never meets.
    """
    order = sorted(range(len(buffers)), key=lambda i: (-buffers[i].size, buffers[i].lower, i))
    slots: list[list[Buffer]] = []
    chosen = [0] * len(buffers)
    for i in order:
        b = buffers[i]
        free = (s for s, members in enumerate(slots) if not any(_meet(b, m) for m in members))
        slot = next(free, len(slots))
        if slot == len(slots):
            slots.append([])
        slots[slot].append(b)
        chosen[i] = slot
    return chosen


def _meet(a: Buffer, b: Buffer) -> bool:
    return a.lower < b.upper and b.lower < a.upper

"""Exact packing: the lowest arena that holds buffers with fixed lifetimes.

`pack_within` decides one capacity with the search of `search.py`; `pack_exact` looks for the lowest
capacity, starting at the max-live bound, where most problems end.
"""

import time
from collections.abc import Sequence

from tilewright.passes.memory.problem import Buffer, height, max_live, validate
from tilewright.passes.memory.search import Undecided, search
from tilewright.passes.memory.sections import sweep

VAIN = 6
"""Capacities that may stay undecided before `pack_exact` is content with what it has."""


def pack_within(buffers: Sequence[Buffer], capacity: int, seconds: float) -> list[int] | None:
    """Offsets (bytes, multiples of the sizes' common divisor) that keep within `capacity`.

    None when there are none or when `seconds` do not suffice; `decide` tells these apart.
    """
    try:
        return decide(buffers, capacity, seconds)
    except Undecided:
        return None


def decide(
    buffers: Sequence[Buffer], capacity: int, seconds: float, nodes: int | None = None
) -> list[int] | None:
    """Offsets within `capacity` bytes, or None when it is proven that there are none.

    Raises `Undecided` when `seconds` or `nodes` of the search do not suffice.
    """
    if max_live(buffers) > capacity:
        return None
    sections = sweep(buffers)
    found = search(sections, capacity // sections.unit, seconds, nodes)
    if found is None:
        return None
    offsets = [0] * len(buffers)
    for index, offset in zip(sections.indices, found, strict=True):
        offsets[index] = offset * sections.unit
    _place_unused(buffers, offsets, set(sections.indices))
    validate(buffers, offsets, max(capacity, height(buffers, offsets)))
    return offsets


def pack_exact(
    buffers: Sequence[Buffer], start: list[int], seconds: float, nodes: int | None = None
) -> tuple[list[int], bool]:
    """Better offsets than `start` if the search finds them in time, and whether they are optimal.

    Sizes must already be multiples of the alignment. The answer is optimal when its height is the
    max-live bound or when the search proved that nothing lower exists. With `nodes`, a limit for
    each capacity tried, the answer does not depend on the machine unless `seconds` run out first.
    """
    best, low = list(start), max_live(buffers)
    high = height(buffers, best)
    unit = sweep(buffers).unit
    deadline = time.monotonic() + seconds
    # `low` is proven; `hope` is the least capacity that has not been tried in vain.
    hope = target = low
    vain = 0
    while hope < high and vain < VAIN and (left := deadline - time.monotonic()) > 0:
        try:
            # The bound deserves the most time: it is met by nearly every problem.
            found = decide(buffers, target, left / 2 if target < high - unit else left, nodes)
        except Undecided:
            hope = target + unit
            vain += 1
        else:
            if found is None:
                low = hope = target + unit
            elif height(buffers, found) < high:
                best, high = found, height(buffers, found)
            else:
                break  # only a buffer that is never used stands out: nothing to gain
        target = hope + (high - hope) // (2 * unit) * unit
        if target >= high:
            target = hope
    return best, low >= high


def _place_unused(buffers: Sequence[Buffer], offsets: list[int], placed: set[int]) -> None:
    """Put buffers that take no step above those whose life surrounds theirs."""
    for i, a in enumerate(buffers):
        if i not in placed and a.size > 0:
            below = [
                offsets[j] + buffers[j].size
                for j in placed
                if a.lower < buffers[j].upper and buffers[j].lower < a.upper
            ]
            offsets[i] = max(below, default=0)
            placed.add(i)

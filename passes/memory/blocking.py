"""Why a capacity does not suffice: buffers that do not fit together, none of them to spare."""

import time
from collections.abc import Sequence

from tilewright.passes.memory.exact import decide
from tilewright.passes.memory.problem import Buffer, max_live


def blocking(
    buffers: Sequence[Buffer], capacity: int, seconds: float = 10.0, nodes: int | None = None
) -> list[int]:
    """Indices of an irreducible set of buffers that no packing brings within `capacity` bytes.

    Leaving out any one of them makes the rest fit; empty if all of them fit. Buffers are dropped
    one by one and left out for good where the rest is still infeasible, as in MiniMalloc (Moffitt,
    ASPLOS 2023), smallest first, so that an error message names the large ones. Raises `Undecided`
    when `seconds` do not suffice, or `nodes` for one of the questions.
    """
    deadline = time.monotonic() + seconds

    def fits(chosen: Sequence[int]) -> bool:
        left = max(deadline - time.monotonic(), 0.0)
        return decide([buffers[i] for i in chosen], capacity, left, nodes) is not None

    kept = list(range(len(buffers)))
    if max_live(buffers) > capacity:
        kept = _fullest_step(buffers)  # a stack: every question below is a sum
    elif fits(kept):
        return []
    for i in sorted(kept, key=lambda i: (buffers[i].size, i)):
        rest = [j for j in kept if j != i]
        if not fits(rest):
            kept = rest
    return kept


def _fullest_step(buffers: Sequence[Buffer]) -> list[int]:
    def alive(step: int) -> list[int]:
        return [i for i, b in enumerate(buffers) if b.lower <= step < b.upper]

    steps = {b.lower for b in buffers}
    return max(map(alive, sorted(steps)), key=lambda chosen: sum(buffers[i].size for i in chosen))

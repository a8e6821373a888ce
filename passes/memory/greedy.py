"""Greedy packing: buffers by falling size, each at the lowest offset where it fits best."""

from collections.abc import Sequence

from tilewright.passes.memory.problem import Buffer


def pack_greedy(buffers: Sequence[Buffer]) -> list[int]:
    """Offsets by best fit in the order of falling size (ties by longer life, then position)."""
    order = sorted(
        range(len(buffers)),
        key=lambda i: (-buffers[i].size, buffers[i].lower - buffers[i].upper, i),
    )
    offsets = [0] * len(buffers)
    placed: list[int] = []
    for i in order:
        b = buffers[i]
        rivals = sorted(
            (offsets[j], offsets[j] + buffers[j].size)
            for j in placed
            if buffers[j].lower < b.upper and b.lower < buffers[j].upper
        )
        best, best_gap, end = -1, -1, 0
        for low, high in rivals:
            gap = low - end
            if gap >= b.size and (best < 0 or gap < best_gap):
                best, best_gap = end, gap
            end = max(end, high)
        offsets[i] = end if best < 0 else best
        placed.append(i)
    return offsets

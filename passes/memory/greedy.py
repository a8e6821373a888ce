"""Greedy packing: buffers by falling size or life, each at the offset where it fits best."""

from collections.abc import Sequence

from tilewright.passes.memory.problem import Buffer


def pack_greedy(buffers: Sequence[Buffer], *, lives: bool = False) -> list[int]:
    """Offsets by best fit in the order of falling size (ties by longer life, then position).

    With `lives` in the order of falling life (ties by larger size): seldom lower, but what lives
    long lies lowest, which holds up better when sizes change in proportion to each other.
    """

    def key(i: int) -> tuple[int, int, int]:
        size, life = -buffers[i].size, buffers[i].lower - buffers[i].upper
        return (life, size, i) if lives else (size, life, i)

    order = sorted(range(len(buffers)), key=key)
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

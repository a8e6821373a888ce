"""Exact packing by depth-first search with pruning, after MiniMalloc (Moffitt, ASPLOS 2023).

Buffers are placed in canonical order (offsets never fall along a branch), always at the lowest
offset that the buffers below allow. A branch dies when the bytes still to place in some section
(a stretch of time with a constant set of live buffers) no longer fit under the capacity, or when
something else would fit under the buffer about to be placed. Capacities are tried from the
max-live bound upwards by bisection; orders of the branches are restarted with growing node limits.
"""

import itertools
import math
import time
from collections.abc import Callable, Sequence

from tilewright.passes.memory.problem import Buffer, height, max_live

MOST = 500
"""Buffers that the search is tried on."""

Order = Callable[[int], tuple[int, ...]]


class _OutOfNodes(Exception):
    pass


class _Search:
    def __init__(self, buffers: Sequence[Buffer], capacity: int, deadline: float) -> None:
        self.buffers, self.capacity, self.deadline = buffers, capacity, deadline
        points = sorted({p for b in buffers for p in (b.lower, b.upper)})
        self.spans = list(itertools.pairwise(points))
        self.sections = [
            [s for s, (lo, hi) in enumerate(self.spans) if b.lower <= lo and hi <= b.upper]
            for b in buffers
        ]
        n = len(buffers)
        self.rivals = [
            [
                j
                for j in range(n)
                if j != i
                and buffers[i].lower < buffers[j].upper
                and buffers[j].lower < buffers[i].upper
            ]
            for i in range(n)
        ]
        self.total = [0] * len(self.spans)
        for b, sections in zip(buffers, self.sections, strict=True):
            for s in sections:
                self.total[s] += b.size

    def solve(self, order: Order, nodes: int) -> list[int] | None:
        """Offsets within the capacity, None when there are none; `_OutOfNodes` past the limit."""
        self.left = nodes
        n = len(self.buffers)
        rank = {i: r for r, i in enumerate(sorted(range(n), key=order))}
        self.rank = [rank[i] for i in range(n)]
        self.low = [0] * n
        self.offset = [-1] * n
        self.floor = [0] * len(self.spans)
        self.todo = list(self.total)
        return list(self.offset) if self._place(set(range(n)), 0, -1) else None

    def _place(self, open_: set[int], floor: int, last_rank: int) -> bool:
        if not open_:
            return True
        self.left -= 1
        if self.left < 0 or time.monotonic() > self.deadline:
            raise _OutOfNodes
        roof = min(self.low[i] + self.buffers[i].size for i in open_)
        for i in sorted(open_, key=lambda i: (self.low[i], self.rank[i])):
            at = self.low[i]
            if at >= roof:
                break  # something still open fits under every later candidate
            if at < floor or (at == floor and self.rank[i] < last_rank):
                continue  # the same packing is found with these two in canonical order
            undo = self._commit(i, at, open_)
            if undo is not None:
                done, hatless = undo
                if self._place(open_ - {i}, at, self.rank[i]):
                    return True
                self._undo(i, done)
                if hatless:
                    return False  # nothing was above it: moving it cannot help
        return False

    def _commit(
        self, i: int, at: int, open_: set[int]
    ) -> tuple[list[tuple[int, int]], bool] | None:
        top = at + self.buffers[i].size
        self.offset[i] = at
        saved: list[tuple[int, int]] = []
        fits, hatless = True, True
        for j in self.rivals[i]:
            if j in open_:
                hatless = False
                if self.low[j] < top:
                    saved.append((j, self.low[j]))
                    self.low[j] = top
                    fits = fits and top + self.buffers[j].size <= self.capacity
        for s in self.sections[i]:
            self.todo[s] -= self.buffers[i].size
        if fits:
            lowest = [self.capacity] * len(self.spans)
            for j in open_:
                if j != i:
                    for s in self.sections[j]:
                        lowest[s] = min(lowest[s], self.low[j])
            fits = all(
                not todo or max(at, low) + todo <= self.capacity
                for todo, low in zip(self.todo, lowest, strict=True)
            )
        if fits:
            return saved, hatless
        self._undo(i, saved)
        return None

    def _undo(self, i: int, saved: list[tuple[int, int]]) -> None:
        for j, low in saved:
            self.low[j] = low
        for s in self.sections[i]:
            self.todo[s] += self.buffers[i].size
        self.offset[i] = -1


def pack_exact(
    buffers: Sequence[Buffer], start: list[int], seconds: float
) -> tuple[list[int], bool]:
    """Better offsets than `start` if the search finds them in time, and whether they are optimal.

    Sizes must already be multiples of the alignment. The answer is optimal when its height is the
    max-live bound or when the search proved that nothing lower exists. More than `MOST` buffers are
    not tried: the search goes as deep as there are buffers.
    """
    solid = [i for i, b in enumerate(buffers) if b.size and b.lower < b.upper]
    if len(solid) > MOST:
        return list(start), False
    placed, proven = _bisect([buffers[i] for i in solid], [start[i] for i in solid], seconds)
    best = [0] * len(buffers)
    for i, at in zip(solid, placed, strict=True):
        best[i] = at
    return best, proven


def _bisect(buffers: Sequence[Buffer], start: list[int], seconds: float) -> tuple[list[int], bool]:
    best, low = list(start), max_live(buffers)
    high = height(buffers, best)
    deadline = time.monotonic() + seconds
    unit = _gcd([b.size for b in buffers])
    orders: list[Order] = [
        lambda i: (buffers[i].lower - buffers[i].upper, -buffers[i].size, i),
        lambda i: ((buffers[i].lower - buffers[i].upper) * buffers[i].size, i),
        lambda i: (-buffers[i].size, i),
    ]
    target = low
    while low < high and time.monotonic() < deadline:
        found = _try(buffers, target, orders, deadline)
        if isinstance(found, list):
            best, high = found, height(buffers, found)
        elif found is None:
            low = target + unit
        else:
            return best, False
        target = low + (high - low) // (2 * unit) * unit
    return best, low >= high


def _try(
    buffers: Sequence[Buffer], capacity: int, orders: list[Order], deadline: float
) -> list[int] | bool | None:
    search, nodes = _Search(buffers, capacity, deadline), 1000
    while time.monotonic() < deadline:
        for order in orders:
            try:
                return search.solve(order, nodes)
            except _OutOfNodes:
                continue
        nodes *= 2
    return False


def _gcd(sizes: list[int]) -> int:
    return math.gcd(*sizes) or 1

"""Does a packing within a capacity exist: depth-first search over the sections of time.

From MiniMalloc (Moffitt, ASPLOS 2023): least offsets of the open buffers, section floors and
totals as the test of a branch, decomposition where no open buffer crosses a boundary, static orders
W, A and T (lifetime width, area, section total) in a restart portfolio. Different is what a node
decides. MiniMalloc picks the next buffer of a canonical order; here a node picks a section and
decides which buffer lies lowest in it, so that a section without slack has to be filled without a
gap and contradictions show at once. Sections that failed often are preferred (Boussemart et al.,
ECAI 2004), restarts follow Luby et al. (1993).
"""

import itertools
import math
import sys
import time

import numpy as np
import numpy.typing as npt

from tilewright.passes.memory.sections import Ints, Sections

FAR = 1 << 60
"""The least offset of a buffer that is not open here; sums of two must fit into 64 bits."""

RESTART_NODES = 1000
NOISE = 0.03
DECAY = 0.5


class Undecided(Exception):
    """Time ran out before a packing was found or excluded."""


class _Restart(Exception):
    pass


def search(
    sections: Sections, capacity: int, seconds: float, nodes: int | None = None
) -> list[int] | None:
    """Offsets (in units, one per buffer of `sections`) within `capacity` units; None if none exist.

    Raises `Undecided` after about `nodes` nodes, the same in every run, or after `seconds`.
    """
    left = math.inf if nodes is None else nodes
    run = _Search(sections, capacity, time.monotonic() + seconds)
    generator = np.random.default_rng(0)
    limit = sys.getrecursionlimit()
    # A branch is as deep as buffers are placed and floors raised, at two frames each.
    sys.setrecursionlimit(max(limit, 1000 + 8 * len(sections.indices)))
    try:
        for attempt in itertools.count():
            rank = run.orders[attempt % len(run.orders)]
            if attempt >= len(run.orders):
                rank = rank + NOISE * len(rank) * generator.random(len(rank))
            share = min(RESTART_NODES * _luby(attempt + 1), left)
            if share <= 0:
                raise Undecided
            left -= share
            try:
                return run.solve(rank, share)
            except _Restart:
                run.weight = 1 + (run.weight - 1) * DECAY
    finally:
        sys.setrecursionlimit(limit)
    raise AssertionError("an endless loop ended")


def _luby(i: int) -> int:
    """Element i >= 1 of 1 1 2 1 1 2 4 1 1 2 1 1 2 4 8 ..."""
    while True:
        power = i.bit_length()
        if i == (1 << power) - 1:
            return 1 << (power - 1)
        i -= (1 << (power - 1)) - 1


class _Search:
    """Arrays by buffer or by section; a branch copies the few that it changes.

    least [buffers + 1]: the lowest offset still possible, `FAR` for buffers not open here and for
        the last one, which fills the columns of `table` [most live, sections]: who lives where
    sky [sections]: the top of what is placed; open buffers lie above it
    left [sections]: units still to place;  crossing [sections - 1]: open buffers over a boundary
    """

    def __init__(self, sections: Sections, capacity: int, deadline: float) -> None:
        self.low, self.high = sections.low, sections.high
        self.size = np.append(sections.size, 0)
        self.capacity, self.deadline = capacity, deadline
        self.inside = np.vstack([sections.inside, np.zeros((1, sections.count), np.bool_)])
        meets = (sections.inside.astype(np.int32) @ sections.inside.T.astype(np.int32)) > 0
        np.fill_diagonal(meets, False)
        self.rivals = [np.flatnonzero(row) for row in meets]
        self.members = [np.flatnonzero(column) for column in sections.inside.T]
        deepest = max((len(column) for column in self.members), default=0)
        self.table = np.full((deepest, sections.count), len(self.low), np.intp)
        for s, column in enumerate(self.members):
            self.table[: len(column), s] = column
        self.weight: npt.NDArray[np.float64] = np.ones(sections.count)
        self.total: Ints = sections.size @ sections.inside
        self.kinds = list(zip(self.low, self.high, sections.size.tolist(), strict=True))
        width, peak = -sections.width, -sections.peak
        area = width * sections.size
        self.orders = [_rank(width, area, peak), _rank(peak, area, width), _rank(peak, width, area)]

    def solve(self, rank: npt.NDArray[np.float64], nodes: float) -> list[int] | None:
        self.rank, self.nodes = rank, nodes
        self.offset = [0] * len(self.low)
        if (self.total > self.capacity).any():
            return None
        crossing = (self.inside[:, 1:] & self.inside[:, :-1]).sum(0, dtype=np.int64)
        least, sky = np.zeros_like(self.size), np.zeros_like(self.total)
        least[-1] = FAR
        everything = (least, sky, self.total.copy(), crossing)
        return list(self.offset) if self._parts(*everything, 0, len(self.total)) else None

    def _parts(
        self, least: Ints, sky: Ints, left: Ints, crossing: Ints, first: int, end: int
    ) -> bool:
        """Solve the sections first <= s < end in parts that share no open buffer."""
        if self.nodes <= 0:
            raise _Restart
        cuts = [first, *(first + 1 + np.flatnonzero(crossing[first : end - 1] == 0)).tolist(), end]
        for a, b in itertools.pairwise(cuts):
            if not left[a:b].any():
                continue
            if (a, b) == (first, end):
                return self._node(least, sky, left, crossing, first, end)
            part = np.where(self.inside[:, a:b].any(axis=1), least, FAR)
            here = np.zeros_like(left)
            here[a:b] = left[a:b]
            if not self._node(part, sky, here, crossing, a, b):
                return False
        return True

    def _node(
        self, least: Ints, sky: Ints, left: Ints, crossing: Ints, first: int, end: int
    ) -> bool:
        self.nodes -= 1
        if self.nodes % 64 == 0 and time.monotonic() > self.deadline:
            raise Undecided
        above = least.take(self.table[:, first:end])
        floor = above.min(axis=0)
        slack = self.capacity - left[first:end] - floor
        live = left[first:end] > 0
        dead = live & (slack < 0)
        if dead.any():
            self.weight[first:end] += dead
            return False
        choices = (above == floor).sum(axis=0) + (slack > 0)
        score = np.where(live, choices / self.weight[first:end], np.inf)
        section, lowest, raised = self._choose(least, floor, score, first)
        level, spare = int(floor[section - first]), int(slack[section - first])

        tried: set[tuple[int, int, int]] = set()
        for b, _ in sorted(zip(lowest, raised, strict=True), key=lambda c: self.rank[c[0]]):
            a, z = self.low[b], self.high[b]
            # Equal buffers are interchangeable; what rests on nothing could be moved down.
            if self.kinds[b] in tried or sky[a:z].max() != level:
                continue
            tried.add(self.kinds[b])
            top = level + int(self.size[b])
            after, roof, rest, over = least.copy(), sky.copy(), left.copy(), crossing.copy()
            after[b] = FAR
            rivals = self.rivals[b]
            after[rivals] = np.maximum(after[rivals], top)
            roof[a:z] = top
            rest[a:z] -= self.size[b]
            over[a : z - 1] -= 1
            self.offset[b] = level
            if self._parts(after, roof, rest, over, first, end):
                return True
        if spare > 0 and self._can_rise(lowest, raised):
            after = least.copy()
            after[lowest] = raised
            if int(after[self.members[section]].min()) <= level + spare and self._parts(
                after, sky, left, crossing, first, end
            ):
                return True
        self.weight[section] += 1
        return False

    def _choose(
        self, least: Ints, floor: Ints, score: npt.NDArray[np.float64], first: int
    ) -> tuple[int, list[int], list[int]]:
        """A section to decide, the buffers that may lie on its floor, and the next offset of each.

        Nothing open may fit below one of these buffers, or its offset would not be settled. In a
        packing where everything has been moved down, a buffer that leaves the floor rests on an
        open buffer: on the lowest top of those, at best. The sections with the least floor qualify.
        """
        tops = least + self.size
        order = [int(score.argmin())]
        for turn in range(len(score)):
            if turn == 1:
                order = np.argsort(score, kind="stable").tolist()
            section = first + order[turn]
            members, level = self.members[section], int(floor[order[turn]])
            lowest = [int(b) for b in members[least[members] == level]]
            raised = [int(tops[self.rivals[b]].min(initial=FAR)) for b in lowest]
            if all(top > level for top in raised):
                return section, lowest, raised
        raise AssertionError("nothing fits below the buffers on the least floor")

    def _can_rise(self, lowest: list[int], raised: list[int]) -> bool:
        return all(
            top + int(self.size[b]) <= self.capacity for b, top in zip(lowest, raised, strict=True)
        )


def _rank(*keys: Ints) -> npt.NDArray[np.float64]:
    rank = np.empty(len(keys[0]))
    rank[np.lexsort(keys[::-1])] = np.arange(len(rank))
    return rank

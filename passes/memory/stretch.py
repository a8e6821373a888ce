"""A stretch of steps between two sets of done ones, and searches for its best order.

A beam search gives a good order; the best path through sets of done steps, smallest peak first, is
exact; when there are too many sets, the integer program of OLLA (`order_ilp`) takes over.
"""

import heapq
import time
from dataclasses import dataclass

from tilewright.passes.memory.dag import Dag, bits
from tilewright.passes.memory.order_ilp import order_ilp


@dataclass(frozen=True)
class Effort:
    """Limits of a search for an order.

    beam: sets of done steps kept at each length;  states: ways to go on that are looked at in all
    ilp_steps: longest stretch for the integer program;  ilp_nodes: its branch and bound nodes
    seconds: wall time at worst; a search that stays within the other limits is deterministic
    """

    beam: int = 32
    states: int = 300_000
    ilp_steps: int = 60
    ilp_nodes: int | None = None
    seconds: float = 5.0


COMPILE = Effort(beam=16, states=100_000, ilp_steps=0, seconds=60.0)
"""What a compile spends: a second or two at worst, nothing where there is no choice."""

CAPPED = Effort(beam=64, states=1_000_000, ilp_steps=0, seconds=120.0)
"""What a compile spends when memory is capped."""


class Budget:
    """What is left of an `Effort`, shared by the searches of one graph."""

    def __init__(self, effort: Effort) -> None:
        self.effort, self.states = effort, effort.states
        self.deadline = time.monotonic() + effort.seconds

    @property
    def seconds(self) -> float:
        """Wall time left."""
        return self.deadline - time.monotonic()

    def empty(self) -> bool:
        """Whether nothing more may be tried."""
        return self.states <= 0 or self.seconds <= 0


class Stretch:
    """The steps of mask `end` that are not in mask `start`, and the bytes their orders keep alive.

    Masks inside of it number these steps from 0: short ones, however long the program is.
    """

    def __init__(self, dag: Dag, start: int, end: int, base: int) -> None:
        self.dag, self.start, self.end, self.base = dag, start, end, base
        self.steps = bits(end & ~start)
        self.full = (1 << len(self.steps)) - 1
        here = {step: k for k, step in enumerate(self.steps)}

        def inside(mask: int) -> int:
            return sum(1 << here[i] for i in bits(mask & end & ~start))

        self.made = [sum(dag.sizes[t] for t in dag.ops[i].writes) for i in self.steps]
        self.needs = [inside(dag.needs[i]) for i in self.steps]
        self.next: list[list[int]] = [[] for _ in self.steps]
        for k, mask in enumerate(self.needs):
            for j in bits(mask):
                self.next[j].append(k)
        self.ready = self.allowed(list(range(len(self.steps))), 0)
        readers: dict[int, int] = {}
        self.frees: list[list[tuple[int, int]]] = []
        for i in self.steps:
            touched = {*dag.ops[i].reads, *dag.ops[i].writes} - dag.kept
            ends = [t for t in sorted(touched) if dag.sizes[t] and not dag.readers[t] & ~end]
            for t in ends:
                if t not in readers:
                    readers[t] = inside(dag.readers[t])
            self.frees.append([(dag.sizes[t], readers[t]) for t in ends])

    def allowed(self, steps: list[int], done: int) -> int:
        """The mask of those `steps` that may run once the steps `done` have."""
        return sum(1 << k for k in steps if not self.needs[k] & ~done)

    def freed(self, k: int, done: int) -> int:
        """Bytes that nobody needs once step k has run after the steps `done`."""
        left = ~(done | 1 << k)
        return sum(size for size, readers in self.frees[k] if not readers & left)

    def walk(self, order: list[int]) -> tuple[int, list[int]]:
        """The most bytes alive at one step of an order of the stretch, and those before each."""
        here = {step: k for k, step in enumerate(self.steps)}
        high, alive, done = self.base, [self.base], 0
        for k in (here[i] for i in order):
            high = max(high, alive[-1] + self.made[k])
            alive.append(alive[-1] + self.made[k] - self.freed(k, done))
            done |= 1 << k
        return high, alive

    def choices(self, ready: int, done: int, live: int, limit: int) -> list[int]:
        """The steps to try next: one alone if it leaves no more bytes alive and keeps the limit.

        Later such a step could not free less nor need more, so no order loses by running it here.
        """
        steps = bits(ready)
        for i in steps:
            if live + self.made[i] <= limit and self.made[i] <= self.freed(i, done):
                return [i]
        return steps


@dataclass(frozen=True)
class Found:
    """An order of a stretch, its peak in bytes, and a peak that no order of it undercuts."""

    steps: list[int]
    peak: int
    bound: int


def solve(stretch: Stretch, bound: int, budget: Budget) -> Found:
    """The best order that the budget suffices to find; its peak is never below `bound` (bytes)."""
    if len(stretch.steps) == 1:
        peak = max(bound, stretch.base + stretch.made[0])
        return Found(stretch.steps, peak, peak)
    best, high = _beam(stretch, bound, budget)
    if high <= bound:
        return Found(best, bound, bound)
    path, low = _best_path(stretch, bound, high, budget)
    if path is not None:
        return Found(path, low, low)
    effort = budget.effort
    if low < high and len(stretch.steps) <= effort.ilp_steps and budget.seconds > 0:
        span = (stretch.dag, stretch.start, stretch.end)
        found, ilp_low = order_ilp(*span, low, high, budget.seconds, effort.ilp_nodes)
        steps = found or best
        return Found(steps, stretch.walk(steps)[0], max(low, ilp_low))
    return Found(best, high, low)


_Path = tuple[int, "_Path | None"]
_State = tuple[int, int, int, int, "_Path | None"]
"""Peak so far, bytes alive, steps done, steps that may run, and how that was reached."""


def _beam(stretch: Stretch, bound: int, budget: Budget) -> tuple[list[int], int]:
    """A good order and its peak: the best sets of each number of steps.

    Where the budget does not reach for that many, fewer go on.
    """
    effort = budget.effort
    width = max(1, min(effort.beam, budget.states // (4 * len(stretch.steps))))
    front: list[_State] = [(stretch.base, stretch.base, 0, stretch.ready, None)]
    for _ in stretch.steps:
        found: dict[int, _State] = {}
        for high, live, done, ready, path in front:
            budget.states -= ready.bit_count()
            for i in stretch.choices(ready, done, live, max(high, bound)):
                top = max(high, live + stretch.made[i])
                rest = live + stretch.made[i] - stretch.freed(i, done)
                key = done | 1 << i
                if key not in found or top < found[key][0]:
                    after = ready & ~(1 << i) | stretch.allowed(stretch.next[i], key)
                    found[key] = (top, rest, key, after, (i, path))
        front = sorted(found.values(), key=lambda s: (max(s[0], bound), s[1], s[2]))
        front = front[: 1 if budget.empty() else width]
    path, steps = front[0][4], list[int]()
    while path is not None:
        step, path = path
        steps.append(stretch.steps[step])
    return steps[::-1], front[0][0]


def _best_path(
    stretch: Stretch, bound: int, high: int, budget: Budget
) -> tuple[list[int] | None, int]:
    """The order with the least peak below `high`, or None, and what is proven of every peak.

    A path through sets of done steps whose largest step is smallest: sets leave the queue by
    rising peak, so the first complete one is best, and a queue cut short still gives a bound.
    """
    queue = [(max(bound, stretch.base), 0, stretch.base, 0, stretch.ready)]
    came: dict[int, tuple[int, int]] = {0: (-1, -1)}
    top: dict[int, int] = {0: queue[0][0]}
    while queue:
        now, _, live, done, ready = heapq.heappop(queue)
        if now > top[done]:
            continue
        if done == stretch.full:
            path: list[int] = []
            while done:
                done, step = came[done]
                path.append(stretch.steps[step])
            return path[::-1], now
        if budget.empty():
            return None, now
        budget.states -= ready.bit_count()
        for i in stretch.choices(ready, done, live, now):
            after, value = done | 1 << i, max(now, live + stretch.made[i])
            if value < high and value < top.get(after, high):
                top[after], came[after] = value, (done, i)
                rest = live + stretch.made[i] - stretch.freed(i, done)
                open_ = ready & ~(1 << i) | stretch.allowed(stretch.next[i], after)
                heapq.heappush(queue, (value, -after.bit_count(), rest, after, open_))
    return None, high

"""The order of steps that keeps the fewest bytes alive.

Every order passes the steps that are comparable with all others (those behind a single tensor, most
often), so the stretches between them are solved one by one. A stretch gets a beam search, then the
best path through sets of done steps, smallest peak first; when there are too many sets, the integer
program of OLLA (Steiner et al., arXiv 2210.12924) with its ASAP and ALAP windows.
"""

import heapq
import time
from dataclasses import dataclass
from itertools import accumulate, pairwise

from tilewright.passes.memory.dag import Dag, bits, check_order, peak, spans
from tilewright.passes.memory.order_ilp import order_ilp

BEAM = 32
STATES = 300_000
ILP_STEPS = 60


@dataclass(frozen=True)
class Order:
    """An order of the steps, its peak in bytes, and a peak that no order undercuts."""

    steps: tuple[int, ...]
    peak: int
    bound: int

    @property
    def proven(self) -> bool:
        """Whether no order has a smaller peak."""
        return self.peak == self.bound


def order_steps(dag: Dag, seconds: float = 5.0) -> Order:
    """An order with the least peak that `seconds` and the limits above suffice to find.

    Never worse than the order of `dag.ops`.
    """
    deadline = time.monotonic() + seconds
    steps: list[int] = []
    bound = must_live(dag)
    stretches = _stretches(dag)
    alive = _between(dag, [i for start, end in stretches for i in bits(end & ~start)])
    for number, (start, end) in enumerate(stretches):
        left = (deadline - time.monotonic()) / (len(stretches) - number)
        part, low = _solve(dag, start, end, alive[start.bit_count()], bound, left)
        steps += part
        bound = max(bound, low)
    check_order(dag, steps)
    given = tuple(range(len(dag.ops)))
    best = min((peak(dag, steps), tuple(steps)), (peak(dag, given), given), key=lambda o: o[0])
    return Order(best[1], best[0], bound)


def must_live(dag: Dag) -> int:
    """A lower bound on every order's peak, at least M_R: what is alive at a step in any order.

    Beside what the step touches these are tensors made before it in every order that are needed
    after it in every order, or at the end.
    """
    live = [sum(dag.sizes[t] for t in {*op.reads, *op.writes}) for op in dag.ops]
    everything = (1 << len(dag.ops)) - 1
    for t, size in enumerate(dag.sizes):
        after = everything if t not in dag.maker else dag.descendants[dag.maker[t]]
        before = everything if t in dag.kept else 0
        for reader in bits(dag.readers[t]):
            before |= dag.ancestors[reader]
        touching = dag.readers[t] | (1 << dag.maker[t] if t in dag.maker else 0)
        for i in bits(after & before & ~touching):
            live[i] += size
    return max(live, default=0)


def _stretches(dag: Dag) -> list[tuple[int, int]]:
    """Masks (done before, done after) of consecutive parts that every order runs in this order."""
    everything = (1 << len(dag.ops)) - 1
    marks = {0, everything}
    for i in range(len(dag.ops)):
        before = dag.ancestors[i]
        if before | 1 << i | dag.descendants[i] == everything:
            marks |= {before, before | 1 << i}
    return list(pairwise(sorted(marks, key=int.bit_count)))


def _between(dag: Dag, order: list[int]) -> list[int]:
    """Bytes alive before each position of `order`, between two steps."""
    change = [0] * (len(order) + 2)
    for t, (lower, upper) in enumerate(spans(dag, order)):
        first = lower + 1 if t in dag.maker else 0
        change[first] += dag.sizes[t]
        change[max(first, upper)] -= dag.sizes[t]
    return list(accumulate(change))


class _Stretch:
    """The steps of `end` that are not in `start`, and the bytes their orders keep alive."""

    def __init__(self, dag: Dag, start: int, end: int, base: int) -> None:
        self.dag, self.start, self.end, self.base = dag, start, end, base
        self.steps = bits(end & ~start)
        self.made = {i: sum(dag.sizes[t] for t in dag.ops[i].writes) for i in self.steps}

        self.next: dict[int, list[int]] = {i: [] for i in self.steps}
        for i in self.steps:
            for j in bits(dag.needs[i] & ~start):
                self.next[j].append(i)
        self.ready = self.allowed(self.steps, start)

    def allowed(self, steps: list[int], done: int) -> int:
        """The mask of those `steps` that may run once the steps `done` have."""
        return sum(1 << i for i in steps if not self.dag.needs[i] & ~done)

    def freed(self, i: int, done: int) -> int:
        """Bytes that nobody needs once step i has run after the steps `done`."""
        dag, after = self.dag, done | 1 << i
        return sum(
            dag.sizes[t]
            for t in {*dag.ops[i].reads, *dag.ops[i].writes}
            if t not in dag.kept and not dag.readers[t] & ~after
        )

    def choices(self, ready: int, done: int, live: int, limit: int) -> list[int]:
        """The steps to try next: one alone if it leaves no more bytes alive and keeps the limit.

        Later such a step could not free less nor need more, so no order loses by running it here.
        """
        steps = bits(ready)
        for i in steps:
            if live + self.made[i] <= limit and self.made[i] <= self.freed(i, done):
                return [i]
        return steps


def _solve(
    dag: Dag, start: int, end: int, base: int, bound: int, seconds: float
) -> tuple[list[int], int]:
    """An order of the stretch, and a lower bound on its peak (at least `bound`)."""
    stretch, begun = _Stretch(dag, start, end, base), time.monotonic()
    if len(stretch.steps) == 1:
        return stretch.steps, max(bound, stretch.base + stretch.made[stretch.steps[0]])
    best, high = _beam(stretch, bound, begun + seconds / 4)
    if high <= bound:
        return best, bound
    path, low = _best_path(stretch, bound, high, begun + seconds / 2)
    if path is not None:
        return path, low
    left = begun + seconds - time.monotonic()
    if low < high and len(stretch.steps) <= ILP_STEPS and left > 0:
        found, ilp_low = order_ilp(dag, start, end, low, high, left)
        return found or best, max(low, ilp_low)
    return best, low


_Path = tuple[int, "_Path | None"]
_State = tuple[int, int, int, int, "_Path | None"]
"""Peak so far, bytes alive, steps done, steps that may run, and how it was reached."""


def _beam(stretch: _Stretch, bound: int, deadline: float) -> tuple[list[int], int]:
    """A good order and its peak: the `BEAM` best sets of each number of steps.

    After the `deadline` only the best set goes on.
    """
    front: list[_State] = [(stretch.base, stretch.base, stretch.start, stretch.ready, None)]
    for _ in stretch.steps:
        found: dict[int, _State] = {}
        for high, live, done, ready, path in front:
            for i in stretch.choices(ready, done, live, max(high, bound)):
                top = max(high, live + stretch.made[i])
                rest = live + stretch.made[i] - stretch.freed(i, done)
                key = done | 1 << i
                if key not in found or top < found[key][0]:
                    after = ready & ~(1 << i) | stretch.allowed(stretch.next[i], key)
                    found[key] = (top, rest, key, after, (i, path))
        front = sorted(found.values(), key=lambda s: (max(s[0], bound), s[1], s[2]))
        front = front[: BEAM if time.monotonic() < deadline else 1]
    path, steps = front[0][4], list[int]()
    while path is not None:
        step, path = path
        steps.append(step)
    return steps[::-1], front[0][0]


def _best_path(
    stretch: _Stretch, bound: int, high: int, deadline: float
) -> tuple[list[int] | None, int]:
    """The order with the least peak below `high`, or None, and what is proven of every peak.

    A path through sets of done steps whose largest step is smallest: sets leave the queue by
    rising peak, so the first complete one is best, and a queue cut short still gives a bound.
    """
    queue = [(max(bound, stretch.base), 0, stretch.base, stretch.start, stretch.ready)]
    came: dict[int, tuple[int, int]] = {stretch.start: (-1, -1)}
    top: dict[int, int] = {stretch.start: queue[0][0]}
    while queue:
        now, _, live, done, ready = heapq.heappop(queue)
        if now > top[done]:
            continue
        if done == stretch.end:
            path: list[int] = []
            while done != stretch.start:
                done, step = came[done]
                path.append(step)
            return path[::-1], now
        if len(top) > STATES or time.monotonic() > deadline:
            return None, now
        for i in stretch.choices(ready, done, live, now):
            after, value = done | 1 << i, max(now, live + stretch.made[i])
            if value < high and value < top.get(after, high):
                top[after], came[after] = value, (done, i)
                rest = live + stretch.made[i] - stretch.freed(i, done)
                open_ = ready & ~(1 << i) | stretch.allowed(stretch.next[i], after)
                heapq.heappush(queue, (value, -after.bit_count(), rest, after, open_))
    return None, high

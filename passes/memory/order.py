"""The order of steps that keeps the fewest bytes alive.

Every order passes the steps that are comparable with all others (those behind a single tensor, most
often), so the stretches between them are solved one by one. What stays open in a long stretch is
divided again, now at will: the order found so far is cut where few bytes are alive and the windows
between two cuts are solved anew, with other cuts each round, until the peak stays.
"""

from dataclasses import dataclass, replace
from itertools import accumulate, pairwise

from tilewright.passes.memory.dag import Dag, bits, check_order, peak, spans
from tilewright.passes.memory.stretch import Budget, Effort, Stretch, solve

WINDOW = 24
"""The most steps between two cuts of a stretch that is too long to be solved as a whole."""

ROUNDS = 100
"""Sets of cuts that are tried at most."""


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


def order_steps(dag: Dag, effort: Effort | None = None) -> Order:
    """An order with the least peak that the `effort` suffices to find.

    Never worse than the order of `dag.ops`, which is the answer where nothing is better.
    """
    given = tuple(range(len(dag.ops)))
    top = peak(dag, given)
    if top == dag.working_set:
        return Order(given, top, top)
    bound = must_live(dag)
    if top == bound:
        return Order(given, top, top)
    # half for the stretches as a whole, half for the windows of those that it does not suffice for
    effort = effort or Effort()
    half = replace(effort, states=effort.states // 2, seconds=effort.seconds / 2)
    budget, rest = Budget(half), Budget(half)
    steps: list[int] = []
    stretches = _stretches(dag)
    alive = _between(dag, [i for start, end in stretches for i in bits(end & ~start)])
    for start, end in stretches:
        stretch = Stretch(dag, start, end, alive[start.bit_count()])
        found = solve(stretch, bound, budget)
        bound = max(bound, found.bound)
        part = min(found.steps, stretch.steps, key=lambda order: stretch.walk(order)[0])
        if found.peak > bound and len(part) > WINDOW:
            part = _windows(stretch, part, bound, rest)
        steps += part
    check_order(dag, steps)
    reached = peak(dag, steps)
    return Order(tuple(steps), reached, bound) if reached < top else Order(given, top, bound)


def _windows(stretch: Stretch, steps: list[int], bound: int, budget: Budget) -> list[int]:
    """A better order of the stretch than `steps`, if its parts can be improved one at a time.

    A round solves the windows that have the peak. Cuts of odd rounds lie in the middle of the
    windows of even ones.
    """
    top, alive = stretch.walk(steps)
    vain = 0
    for turn in range(ROUNDS):
        if top <= bound or vain == 2 or budget.empty():
            break
        done, made = stretch.start, list[int]()
        for first, end in pairwise(_cuts(alive, len(steps), turn % 2)):
            part = steps[first:end]
            after = done | sum(1 << i for i in part)
            window = Stretch(stretch.dag, done, after, alive[first])
            if window.walk(part)[0] == top and not budget.empty():
                found = solve(window, bound, budget)
                part = found.steps if found.peak < top else part
            made += part
            done = after
        steps, before = made, top
        top, alive = stretch.walk(steps)
        vain = 0 if top < before else vain + 1
    return steps


def _cuts(alive: list[int], count: int, shift: int) -> list[int]:
    """Positions 0 = c0 < c1 < ... = count, at most `WINDOW` apart, where few bytes are alive."""
    cuts = [0]
    reach = WINDOW // 2 if shift else WINDOW
    while count - cuts[-1] > reach:
        span = range(cuts[-1] + max(reach // 2, 1), cuts[-1] + reach + 1)
        cuts.append(min(span, key=lambda p: (alive[p], -p)))
        reach = WINDOW
    return [*cuts, count]


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

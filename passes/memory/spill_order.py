"""Order and copies together: the order of steps in which keeping to a cap copies least.

COSMA (arXiv 2311.18246) decides on both in one integer program. Here the order is branched on and
the program for a fixed order bounds and solves the branches: exact where the orders are few, as
between the branches of a network; where they are many, the order with the least peak is taken.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from tilewright.passes.memory.dag import Dag
from tilewright.passes.memory.order import order_steps
from tilewright.passes.memory.spill import overflow, plan_spills
from tilewright.passes.memory.stays import SpillPlan
from tilewright.passes.memory.stretch import CAPPED

ORDERS = 50
"""Orders that are all tried; where there are more, one is."""


def plan_order(dag: Dag, cap: int, unit: int = 1) -> tuple[tuple[int, ...], SpillPlan] | None:
    """An order of the steps and a plan for it within `cap` bytes that copies least.

    The plan's slots are positions of the order. Its bound holds for every order if all of them were
    tried, as `every_order` tells; else for this one. None if `cap` is below M_R.
    """
    if cap < dag.working_set:
        return None
    first = order_steps(dag, CAPPED).steps
    others = every_order(dag) or []
    best: tuple[tuple[int, ...], SpillPlan] | None = None
    bounds: list[int] = []
    for order in dict.fromkeys([first, *others]):
        given = reordered(dag, order)
        low = overflow(given, cap)
        if best is None or low < best[1].traffic:
            plan = plan_spills(given, cap, unit=unit)
            assert plan is not None, "M_R does not depend on the order"
            low = plan.bound
            if best is None or plan.traffic < best[1].traffic:
                best = order, plan
        bounds.append(low)
    assert best is not None
    order, plan = best
    return order, replace(plan, bound=min(plan.bound, *bounds))


def every_order(dag: Dag) -> list[tuple[int, ...]] | None:
    """All orders of the steps; None if there are more than `ORDERS`."""
    found: list[tuple[int, ...]] = []
    for order in _orders(dag, (), 0):
        if len(found) == ORDERS:
            return None
        found.append(order)
    return found


def _orders(dag: Dag, done: tuple[int, ...], mask: int) -> Iterator[tuple[int, ...]]:
    if len(done) == len(dag.ops):
        yield done
    for i, need in enumerate(dag.needs):
        if not mask >> i & 1 and not need & ~mask:
            yield from _orders(dag, (*done, i), mask | 1 << i)


def reordered(dag: Dag, order: Sequence[int]) -> Dag:
    """The same steps, numbered by their position in `order`."""
    at = {step: position for position, step in enumerate(order)}
    steps = (dag.ops[i] for i in order)
    ops = tuple(replace(op, after=tuple(sorted(at[i] for i in op.after))) for op in steps)
    return Dag(ops, dag.sizes, dag.kept)

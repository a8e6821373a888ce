"""What a compile asks about memory: the order of steps, the places of buffers, what is proven."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace

from tilewright.compiler.errors import UserError
from tilewright.compiler.ir.core import Symbol
from tilewright.passes.memory.caps import Caps, check_memory, refuse_unbounded
from tilewright.passes.memory.certificate import certify
from tilewright.passes.memory.dag import Dag, from_accesses
from tilewright.passes.memory.fast import Access, Traffic, Visit, inside, place_rest, plan_visits
from tilewright.passes.memory.order import Order, order_steps
from tilewright.passes.memory.plan import Plan, Row, judged, limit, plan_memory
from tilewright.passes.memory.problem import ALIGNMENT, Buffer, height, max_live
from tilewright.passes.memory.spill_order import plan_order
from tilewright.passes.memory.stretch import CAPPED, COMPILE


class MemoryPlanner:
    """Orders steps and places buffers for one variant, and keeps what was planned and proven.

    `table` has the symbols of the graph, `caps` what the user allows. `plan` is set by `place`.
    """

    def __init__(self, table: Mapping[str, Symbol], caps: Caps | None = None) -> None:
        self.table, self.caps = table, caps or Caps()
        self.plan: Plan | None = None
        self.traffic: Traffic | None = None
        self._orders: dict[Dag, Order] = {}

    def order(self, accesses: Sequence[Access], rows: Sequence[Row]) -> tuple[int, ...]:
        """An order of the steps that keeps few bytes alive at nominal sizes of the symbols.

        Where that does not keep to a cap on fast memory, one that copies little.
        """
        dag = self._dag(accesses, rows)
        found = self._order(dag)
        fast = self.caps.fast
        if fast is not None and found.peak > fast and judged(rows, self.table)[2]:
            within = plan_order(dag, fast // ALIGNMENT * ALIGNMENT, ALIGNMENT)
            return found.steps if within is None else within[0]
        return found.steps

    def cost(self, accesses: Sequence[Access], rows: Sequence[Row]) -> tuple[int, int]:
        """Bytes that a run copies to keep to a cap on fast memory, and the most bytes alive."""
        _, sized, constant = judged(rows, self.table)
        live, fast = max_live(sized), self.caps.fast
        if fast is None or not constant or plan_memory(rows, self.table).nominal <= fast:
            return 0, live
        try:
            return plan_visits(accesses, sized, fast)[1].copied, live
        except UserError:  # what is in the way is told once the order is settled
            return sys.maxsize, live

    def visits(self, accesses: Sequence[Access], rows: Sequence[Row]) -> list[Visit] | None:
        """Where rows are when the fast part of the arena does not hold all of them at once.

        None if it does, or if no cap is set. Raises UserError where a step alone needs more, and
        for dimensions without bounds.
        """
        if self.caps.fast is None:
            return None
        self._bounded("fast_memory", rows)
        if plan_memory(rows, self.table).nominal <= self.caps.fast:
            return None
        found, self.traffic = plan_visits(accesses, judged(rows, self.table)[1], self.caps.fast)
        return found

    def place(
        self,
        accesses: Sequence[Access],
        rows: Sequence[Row],
        weights: int | None = 0,
        fixed: Sequence[int | None] | None = None,
    ) -> Plan:
        """Offsets of all rows, with the proof of how good they are.

        Those that are `fixed` stay, the others then lie above the fast part. `weights` are the
        bytes that the cap on memory counts beside the arena; raises UserError if it is exceeded,
        unless `weights` is None, not known yet.
        """
        env, sized, _ = judged(rows, self.table)
        if fixed is None:
            plan = plan_memory(rows, self.table)
            dag = self._dag(accesses, rows)
            proven = plan.method == "exact"
            found = certify(dag, plan.nominal, self._order(dag), packing_proven=proven)
            plan = replace(plan, certificate=found)
        else:
            assert self.caps.fast is not None
            offsets = place_rest(sized, fixed, self.caps.fast)
            arena = height(sized, offsets)
            plan = Plan(tuple(offsets), arena, max_live(sized), arena, env, "visits")
            plan = replace(plan, traffic=self.traffic)
        if self.caps.memory is not None:
            self._bounded("max_memory", rows)
            if weights is not None:
                check_memory(self.caps.memory, weights, plan.nominal, sized, env)
        self.plan = plan
        return plan

    def _bounded(self, option: str, rows: Sequence[Row]) -> None:
        env, _, constant = judged(rows, self.table)
        if not constant:
            refuse_unbounded(option, [name for name in env if limit(self.table[name]) is None])

    def _dag(self, accesses: Sequence[Access], rows: Sequence[Row]) -> Dag:
        return step_dag(accesses, judged(rows, self.table)[1])

    def _order(self, dag: Dag) -> Order:
        if dag not in self._orders:
            self._orders[dag] = order_steps(dag, COMPILE if self.caps == Caps() else CAPPED)
        return self._orders[dag]


def step_dag(accesses: Sequence[Access], rows: Sequence[Buffer]) -> Dag:
    """The order problem of a program: a tensor a row, then one a place without bytes.

    What the steps inside a step keep alive, beyond what it leaves behind, is a tensor of its own,
    so that the peak of the order as given is the max-live bound of the rows.
    """
    count = 1 + max((p for a in accesses for p in (*a.reads, *a.writes)), default=-1)
    sizes = [row.size for row in rows] + [0] * (count - len(rows))
    touched: list[tuple[set[int], set[int]]] = []
    for access in accesses:
        reads, writes = set(access.reads), set(access.writes)
        if access.end - access.first > 1:
            born = [row for row in rows if access.first <= row.lower < access.end]
            left = sum(row.size for row in born if row.upper > access.end)
            ends = [replace(row, upper=min(row.upper, access.end)) for row in born]
            gone = set(inside(access, rows))
            reads, writes = reads - gone, (writes - gone) | {len(sizes)}
            sizes.append(max(max_live(ends) - left, 0))
        touched.append((reads, writes))
    return from_accesses(touched, sizes)

"""What a compile asks about memory: the order of steps, the places of buffers, what is proven."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from tilewright.compiler.ir.core import Symbol
from tilewright.passes.memory.certificate import certify
from tilewright.passes.memory.dag import Dag, from_accesses
from tilewright.passes.memory.order import Order, order_steps
from tilewright.passes.memory.plan import Plan, Row, judged, plan_memory
from tilewright.passes.memory.problem import Buffer, max_live
from tilewright.passes.memory.stretch import COMPILE


class Access(Protocol):
    """What a step touches: rows by number, then places without bytes.

    It takes the numbers first <= t < end that lifetimes count in: more than one if it has steps
    inside.
    """

    @property
    def reads(self) -> Collection[int]: ...
    @property
    def writes(self) -> Collection[int]: ...
    @property
    def first(self) -> int: ...
    @property
    def end(self) -> int: ...


class MemoryPlanner:
    """Orders steps and places buffers for one variant, and keeps what was planned and proven.

    `table` has the symbols of the graph. `plan` is set by `place`.
    """

    def __init__(self, table: Mapping[str, Symbol]) -> None:
        self.table = table
        self.plan: Plan | None = None
        self._orders: dict[Dag, Order] = {}

    def order(self, accesses: Sequence[Access], rows: Sequence[Row]) -> tuple[int, ...]:
        """An order of the steps that keeps few bytes alive at nominal sizes of the symbols."""
        return self._order(self._dag(accesses, rows)).steps

    def live(self, rows: Sequence[Row]) -> int:
        """The most bytes alive at one step, at nominal sizes."""
        return max_live(judged(rows, self.table)[1])

    def place(self, accesses: Sequence[Access], rows: Sequence[Row]) -> Plan:
        """Offsets of all rows, with the proof of how good they are."""
        plan = plan_memory(rows, self.table)
        dag = self._dag(accesses, rows)
        proven = plan.method == "exact"
        found = certify(dag, plan.nominal, self._order(dag), packing_proven=proven)
        self.plan = replace(plan, certificate=found)
        return self.plan

    def _dag(self, accesses: Sequence[Access], rows: Sequence[Row]) -> Dag:
        return step_dag(accesses, judged(rows, self.table)[1])

    def _order(self, dag: Dag) -> Order:
        if dag not in self._orders:
            self._orders[dag] = order_steps(dag, COMPILE)
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
            gone = {i for i, row in enumerate(rows) if row in born and row.upper <= access.end}
            reads, writes = reads - gone, (writes - gone) | {len(sizes)}
            sizes.append(max(max_live(ends) - left, 0))
        touched.append((reads, writes))
    return from_accesses(touched, sizes)

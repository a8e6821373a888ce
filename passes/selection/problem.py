"""The selection problem: one strategy for every node, least cost of nodes and edges under limits.

It is the problem of the ASPLOS / EuroSys 2025 contest on intra-operator parallelism (IOPDDL), with
edges over any number of nodes and with budgets besides the one for memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import inf, prod

Choice = tuple[int, ...]
"""The strategy of every node, by number."""


class InfeasibleError(Exception):
    """No choice keeps every limit and avoids every forbidden combination.

    limit: name of the limit that is too tight, `least` the smallest that it could be with all other
    limits ignored (for memory: at its tightest moment); several names, and inf, where each could be
    kept alone; None where forbidden combinations alone leave nothing. beside: the limits that are
    not ignored, of one that could be kept alone.
    """

    def __init__(self, limit: str | None, least: float = inf, beside: str = "") -> None:
        if limit is None:
            text = "every choice contains a forbidden combination"
        elif least == inf:
            text = f"no choice keeps all of the limits {limit}"
        else:
            both = f"{limit} beside {beside}" if beside else limit
            text = f"no choice keeps the limit {both}: at least {least:.12g} is needed"
        super().__init__(text)
        self.limit, self.least, self.beside = limit, least, beside


@dataclass(frozen=True)
class Node:
    """Something to decide: a cost and a memory usage for each strategy.

    Usage counts at the times `interval[0] <= t < interval[1]`; inf as a cost forbids a strategy.
    """

    costs: tuple[float, ...]
    usages: tuple[float, ...] = ()
    interval: tuple[int, int] = (0, 1)
    name: str = ""

    def __post_init__(self) -> None:
        if not self.usages:
            object.__setattr__(self, "usages", (0,) * len(self.costs))
        if not self.costs or len(self.usages) != len(self.costs):
            what = "a cost and a usage for each strategy, at least 1"
            raise ValueError(f"node {self.name!r}: {what}")
        if min(self.usages) < 0:
            raise ValueError(f"node {self.name!r}: a usage is negative")


@dataclass(frozen=True)
class Edge:
    """A cost for every combination of the strategies of some nodes, in row-major order.

    inf forbids a combination. A node comes at most once.
    """

    nodes: tuple[int, ...]
    costs: tuple[float, ...]


@dataclass(frozen=True)
class Budget:
    """A sum over nodes of what their strategies spend, at most `limit`; nodes not named spend 0."""

    name: str
    spent: tuple[tuple[int, tuple[float, ...]], ...]
    limit: float


@dataclass(frozen=True)
class Problem:
    """Nodes, edges, the limit of memory usage at any time (None: none), and further budgets.

    Raises ValueError when tables and nodes do not fit together.
    """

    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...] = ()
    usage_limit: float | None = None
    budgets: tuple[Budget, ...] = ()
    name: str = "selection"

    def __post_init__(self) -> None:
        for number, edge in enumerate(self.edges):
            if len(set(edge.nodes)) != len(edge.nodes):
                raise ValueError(f"edge {number} names a node twice")
            size = prod(len(self.nodes[n].costs) for n in edge.nodes)
            if len(edge.costs) != size:
                raise ValueError(f"edge {number} has {len(edge.costs)} costs, not {size}")
        for budget in self.budgets:
            for n, spent in budget.spent:
                if len(spent) != len(self.nodes[n].costs):
                    raise ValueError(f"budget {budget.name!r}: node {n} has other strategies")
                if min(spent) < 0:
                    raise ValueError(f"budget {budget.name!r}: node {n} spends less than nothing")

    def cost(self, choice: Sequence[int]) -> float:
        """Of all nodes and edges; inf for a forbidden one."""
        nodes = sum(node.costs[c] for node, c in zip(self.nodes, choice, strict=True))
        return nodes + sum(edge.costs[self.index(edge, choice)] for edge in self.edges)

    def index(self, edge: Edge, choice: Sequence[int]) -> int:
        """Which entry of the edge's table a choice reads."""
        at = 0
        for n in edge.nodes:
            at = at * len(self.nodes[n].costs) + choice[n]
        return at

    def limits(self) -> tuple[Budget, ...]:
        """All limits as budgets: memory at each time at which no more nodes are alive than at
        another, called `memory`, then the budgets."""
        if self.usage_limit is None:
            return self.budgets
        moments = [
            Budget("memory", tuple((n, self.nodes[n].usages) for n in alive), self.usage_limit)
            for alive in _live_sets(n.interval for n in self.nodes)
        ]
        return (*moments, *self.budgets)

    def keeps_limits(self, choice: Sequence[int]) -> bool:
        """Whether a choice exceeds no limit, in exact arithmetic for integers."""
        return all(
            sum(table[choice[n]] for n, table in limit.spent) <= limit.limit
            for limit in self.limits()
        )


def _live_sets(intervals: Iterable[tuple[int, int]]) -> list[tuple[int, ...]]:
    """The sets of nodes alive together that are in no other such set, by the sweep of their ends:
    a set is maximal when the last event before an end was a start."""
    known = [(i, low, high) for i, (low, high) in enumerate(intervals) if low < high]
    events = sorted([(low, 1, i) for i, low, _ in known] + [(high, 0, i) for i, _, high in known])
    alive: set[int] = set()
    grew = False
    found: list[tuple[int, ...]] = []
    for _, starts, i in events:
        if starts:
            alive.add(i)
        else:
            if grew:
                found.append(tuple(sorted(alive)))
            alive.discard(i)
        grew = bool(starts)
    return found

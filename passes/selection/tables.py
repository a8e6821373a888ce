"""The solver as lowering calls it: on plain tables, of which it needs an answer in any case."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from tilewright.passes.selection.ilp import solve
from tilewright.passes.selection.problem import Budget, Edge, InfeasibleError, Node, Problem


class Spending(Protocol):
    """A sum over nodes of what their strategies spend, and the most that it may be."""

    @property
    def name(self) -> str: ...
    @property
    def spent(self) -> tuple[tuple[int, tuple[float, ...]], ...]: ...
    @property
    def limit(self) -> float: ...


class Tables(Protocol):
    """Costs and bytes by node and strategy, edges as (nodes, row-major costs), a limit of bytes,
    further budgets."""

    @property
    def names(self) -> Sequence[str]: ...
    @property
    def costs(self) -> Sequence[tuple[float, ...]]: ...
    @property
    def usages(self) -> Sequence[tuple[int, ...]]: ...
    @property
    def edges(self) -> Sequence[tuple[tuple[int, ...], tuple[float, ...]]]: ...
    @property
    def usage_limit(self) -> int | None: ...
    @property
    def budgets(self) -> Sequence[Spending]: ...


def as_problem(tables: Tables, limit: int | None) -> Problem:
    """The selection problem of `tables` under a limit of bytes."""
    nodes = zip(tables.costs, tables.usages, tables.names, strict=True)
    return Problem(
        tuple(Node(costs, usages, (0, 1), name) for costs, usages, name in nodes),
        tuple(Edge(ends, costs) for ends, costs in tables.edges),
        limit,
        tuple(Budget(b.name, b.spent, b.limit) for b in tables.budgets),
    )


def solve_tables(tables: Tables) -> tuple[int, ...]:
    """The cheapest choice that keeps the limit; where none does, the cheapest of fewest bytes.

    Whether those fit is for the memory plan to say, which knows what else there is.
    """
    try:
        return solve(as_problem(tables, tables.usage_limit)).choice
    except InfeasibleError as tight:
        if tight.limit != "memory":
            raise
        return solve(as_problem(tables, int(tight.least))).choice

"""Selection as an integer linear program.

x_ij = 1 when node i has strategy j, one a node. An edge has y_t >= 0 for every combination t of
its nodes' strategies, whose sums over all other nodes' strategies are the x_ij of each node (the
local polytope, tight for one edge): y is integral where x is. A limit is one row.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, isfinite

import numpy as np

from tilewright.passes.memory.milp import Milp
from tilewright.passes.selection.dominance import reduced
from tilewright.passes.selection.problem import Choice, Edge, InfeasibleError, Problem

SCALE = 1e5
"""What the largest cost becomes: the solver's tolerances are absolute."""

EXACT_NODES = 40
"""Up to so many nodes are solved exactly under limits."""

GAP = 1e-3
"""By which share of the cost a choice among more nodes may be above the best: costs are predictions
to within some percent, and the last thousandth takes most of the time where two limits are tight.
"""


class UndecidedError(Exception):
    """Time ran out before any choice was found."""


@dataclass(frozen=True)
class Solution:
    """A choice, its cost, and a proven bound: no choice that keeps the limits costs less."""

    choice: Choice
    cost: float
    bound: float

    @property
    def optimal(self) -> bool:
        return self.cost <= self.bound + 1e-9 * max(1.0, abs(self.cost))


def solve(problem: Problem, seconds: float = 60.0) -> Solution:
    """The cheapest choice, or the best one found in `seconds`.

    Strategies that others dominate are left out; parts that neither edges nor limits connect are
    solved apart, nodes alone by looking. Raises InfeasibleError, with what the limit would have to
    be, and UndecidedError.
    """
    whole, less = problem, reduced(problem)
    problem = less.problem
    choice = [0] * len(problem.nodes)
    bound = 0.0
    groups = _connected(problem)
    bounded = {n for group in groups for n in group}
    for members in _parts(len(problem.nodes), groups):
        if bounded.isdisjoint(members):
            (n,) = members
            costs = problem.nodes[n].costs
            choice[n] = costs.index(min(costs))
            bound += costs[choice[n]]
            if costs[choice[n]] == inf:
                raise InfeasibleError(None)
        else:
            found, least = _solve_part(problem, members, seconds)
            bound += least
            for n, j in found.items():
                choice[n] = j
    best = less.choice(tuple(choice))
    cost = whole.cost(best)
    return Solution(best, cost, min(bound, cost))


def _connected(problem: Problem) -> list[tuple[int, ...]]:
    """The nodes of every edge and of every limit that some choice exceeds."""
    groups = [edge.nodes for edge in problem.edges]
    for limit in problem.limits():
        if sum(max(table) for _, table in limit.spent) > limit.limit:
            groups.append(tuple(n for n, table in limit.spent if any(table)))
            if not groups[-1]:
                raise InfeasibleError(limit.name, 0.0)
    return groups


def _parts(count: int, groups: list[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """Numbers below `count`, those together that groups connect."""
    parent = list(range(count))

    def root(n: int) -> int:
        while parent[n] != n:
            parent[n] = n = parent[parent[n]]
        return n

    for group in groups:
        for n in group[1:]:
            parent[root(n)] = root(group[0])
    found: dict[int, list[int]] = {}
    for n in range(count):
        found.setdefault(root(n), []).append(n)
    return [tuple(members) for members in found.values()]


class _Program:
    """The ILP of some nodes with the edges and limits inside."""

    def __init__(self, problem: Problem, members: tuple[int, ...]) -> None:
        self.problem, self.members, self.inside = problem, members, set(members)
        self.edges = [e for e in problem.edges if self.inside.issuperset(e.nodes)]
        known = [c for n in members for c in problem.nodes[n].costs]
        known += [c for e in self.edges for c in e.costs]
        largest = max((abs(c) for c in known if isfinite(c)), default=0.0)
        self.scale = SCALE / largest if largest else 1.0
        self.milp = Milp()
        self.x = {n: [self._column(c, whole=True) for c in problem.nodes[n].costs] for n in members}
        for columns in self.x.values():
            self.milp.row([(c, 1) for c in columns], 1, 1)
        for edge in self.edges:
            self._edge(edge)

    def _column(self, cost: float, *, whole: bool) -> int:
        allowed = isfinite(cost)
        scaled = cost * self.scale if allowed else 0.0
        return self.milp.column(0.0, float(allowed), scaled, whole=whole)

    def _edge(self, edge: Edge) -> None:
        shape = [len(self.x[n]) for n in edge.nodes]
        y = np.reshape([self._column(c, whole=False) for c in edge.costs], shape)
        for place, n in enumerate(edge.nodes):
            sums = np.moveaxis(y, place, 0).reshape(shape[place], -1).tolist()
            for columns, column in zip(sums, self.x[n], strict=True):
                self.milp.row([*((c, 1.0) for c in columns), (column, -1.0)], 0, 0)

    def limit(self, leaving: str = "") -> None:
        """Add the rows of the limits, but not of the one called `leaving`.

        In units of the limit, since the solver keeps rows to an absolute tolerance, and without the
        strategies that are beyond it alone, whose coefficients would be out of all proportion.
        """
        for budget in self.problem.limits():
            terms = [] if budget.name == leaving else self._terms(budget.spent)
            if not terms:
                continue
            unit = budget.limit if budget.limit > 0 else max(abs(v) for _, v in terms) or 1.0
            if min(v for _, v in terms) >= 0:
                for column, _ in (term for term in terms if term[1] > budget.limit):
                    self.milp.high[column] = 0.0
                terms = [term for term in terms if term[1] <= budget.limit]
            self.milp.row([(c, v / unit) for c, v in terms], high=budget.limit / unit)

    def _terms(self, spent: tuple[tuple[int, tuple[float, ...]], ...]) -> list[tuple[int, float]]:
        return [
            pair
            for n, table in spent
            if n in self.inside
            for pair in zip(self.x[n], table, strict=True)
        ]

    def choice(self, values: list[float]) -> dict[int, int]:
        return {n: max(range(len(c)), key=lambda j: values[c[j]]) for n, c in self.x.items()}

    def forbid(self, choice: dict[int, int]) -> None:
        """This very choice must not come again."""
        self.milp.row([(self.x[n][j], 1) for n, j in choice.items()], high=len(choice) - 1)

    @property
    def gap(self) -> float:
        return GAP if len(self.members) > EXACT_NODES and self.problem.limits() else 0.0

    def least(self, spent: tuple[tuple[int, tuple[float, ...]], ...], seconds: float) -> float:
        """The smallest sum that any choice without forbidden combinations spends; inf if none."""
        terms = self._terms(spent)
        unit = max((abs(value) for _, value in terms), default=0.0) or 1.0
        self.milp.cost = [0.0] * len(self.milp.cost)
        for column, value in terms:
            self.milp.cost[column] += SCALE * value / unit
        answer = self.milp.solve(seconds, gap=self.gap)
        if answer.values is None:
            return inf
        choice = self.choice(answer.values)
        return sum(table[choice[n]] for n, table in spent if n in choice)


def _solve_part(
    problem: Problem, members: tuple[int, ...], seconds: float
) -> tuple[dict[int, int], float]:
    """The strategies of `members`, and a bound for what they cost."""
    program = _Program(problem, members)
    program.limit()
    while True:
        answer = program.milp.solve(seconds, gap=program.gap)
        if answer.status == "infeasible":
            raise _too_tight(problem, members, seconds)
        if answer.values is None:
            raise UndecidedError(f"no choice for {len(members)} nodes in {seconds:g} s")
        choice = program.choice(answer.values)
        if _keeps(problem, choice):
            return choice, answer.bound / program.scale
        # The solver keeps rows to a tolerance only; bytes are exact.
        program.forbid(choice)


def _keeps(problem: Problem, choice: dict[int, int]) -> bool:
    """Whether the limits hold for chosen nodes (a limit lies within one part)."""
    return all(
        sum(table[choice[n]] for n, table in limit.spent if n in choice) <= limit.limit
        for limit in problem.limits()
    )


def _too_tight(problem: Problem, members: tuple[int, ...], seconds: float) -> InfeasibleError:
    """Which limit no choice keeps: the one that fails alone, else the one that is furthest from
    what the others leave it, in units of itself."""
    program = _Program(problem, members)
    limits = [
        limit for limit in problem.limits() if any(n in program.inside for n, _ in limit.spent)
    ]
    found: list[tuple[str, float]] = []
    for limit in limits:
        least = program.least(limit.spent, seconds)
        if least == inf:
            return InfeasibleError(None)
        if least > limit.limit:
            found.append((limit.name, least))
    if not limits:
        return InfeasibleError(None)
    if found:
        return InfeasibleError(*max(found, key=lambda item: item[1]))
    beside: list[tuple[float, str, float]] = []
    for limit in problem.budgets:
        program = _Program(problem, members)
        program.limit(leaving=limit.name)
        least = program.least(limit.spent, seconds)
        if limit.limit < least < inf:
            beside.append((least / limit.limit, limit.name, least))
    if not beside:
        return InfeasibleError(" and ".join(dict.fromkeys(limit.name for limit in limits)))
    _, name, least = max(beside)
    others = dict.fromkeys(limit.name for limit in limits if limit.name != name)
    return InfeasibleError(name, least, " and ".join(others))

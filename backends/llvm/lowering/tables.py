"""The questions of a graph as a selection problem in plain tables.

A question is a node with a strategy for each candidate. A value that can be handed on in other
formats is a node, too, with an edge to its maker and to each of its readers. Under a memory cap
the packed constant of a question counts; a constant that several operations read, or that is looked
up too, is a node of its own, whose strategies are the sets of layouts in which it may be stored.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import inf

from tilewright.backends.kernels.family import Layout
from tilewright.backends.llvm.lowering.choice import Question
from tilewright.backends.llvm.lowering.error_budgets import ErrorBudget
from tilewright.backends.llvm.lowering.format_prices import FormatNode
from tilewright.backends.llvm.lowering.pricing import Prices


@dataclass(frozen=True)
class Tables:
    """Costs and bytes by node and strategy, edges as (nodes, row-major costs), the limit of bytes,
    the limits of errors.

    The first nodes are the questions in order, then come the values. As
    `passes.selection.problem.Problem` takes them.
    """

    names: tuple[str, ...]
    costs: tuple[tuple[float, ...], ...]
    usages: tuple[tuple[int, ...], ...]
    edges: tuple[tuple[tuple[int, ...], tuple[float, ...]], ...]
    usage_limit: int | None
    budgets: tuple[ErrorBudget, ...] = ()


@dataclass(frozen=True)
class Objective:
    """What choices cost: shares of the least time of the whole graph, and of its bytes of weights
    as they are.

    A byte costs a little in any case, all of them together a tenth of the least time: what is
    hardly faster (rows of an embedding in f32) does not keep four times the bytes.
    """

    time: float = 1.0
    size: float = 0.1


OBJECTIVES = {"latency": Objective(), "size": Objective(time=1e-2, size=1.0)}
"""What `--optimize` minimizes; the other quantity decides among equals."""


@dataclass(frozen=True)
class Lookup:
    """A table whose rows are read too: from the layout `from_layout` if it is stored so, else from
    a copy of its own of `bytes`."""

    from_layout: str
    bytes: int


def tables(
    questions: Sequence[Question],
    prices: Prices,
    limit: int | None,
    lookups: Mapping[str, Lookup],
    values: Sequence[FormatNode] = (),
    budgets: tuple[ErrorBudget, ...] = (),
    objective: Objective | None = None,
) -> Tables:
    """The problem of `questions` under a limit of bytes for their constants (None: none).

    lookups: by name of the constant. objective: None counts time alone.
    """
    names = [q.source or str(i) for i, q in enumerate(questions)]
    costs = [tuple(row) for row in prices.costs()]
    usages = [(0,) * len(q.candidates) for q in questions]
    edges: list[tuple[tuple[int, ...], tuple[float, ...]]] = []
    for value in values:
        for question_at, rows in value.edges:
            edges.append(((question_at, len(names)), tuple(c for row in rows for c in row)))
        names.append(value.name)
        costs.append(value.costs)
        usages.append((0,) * len(value.costs))
    readers: dict[tuple[Hashable, ...], list[int]] = {}
    for i, question in enumerate(questions):
        if (limit is not None or objective is not None) and question.constant:
            readers.setdefault(question.stored, []).append(i)
    for members in readers.values():
        name = questions[members[0]].constant
        lookup = lookups.get(name)
        layouts = [[c.layout for c in questions[i].candidates] for i in members]
        if len(members) == 1 and lookup is None:
            (row,) = layouts
            usages[members[0]] = tuple(0 if at is None else at.bytes for at in row)
            continue
        stored = _sets(layouts)
        node = len(names)
        names.append(name)
        costs.append((0.0,) * len(stored))
        usages.append(tuple(_bytes(kept, lookup) for kept in stored))
        for i, row in zip(members, layouts, strict=True):
            there = [0.0 if at in kept else inf for at in row for kept in stored]
            edges.append(((i, node), tuple(there)))
    if objective is not None:
        edges = [(at, tuple(objective.time * c for c in row)) for at, row in edges]
        whole = sum(max(row) for row in usages) or 1
        costs = [
            tuple(
                objective.time * c + objective.size * b / whole for c, b in zip(*rows, strict=True)
            )
            for rows in zip(costs, usages, strict=True)
        ]
    return Tables(tuple(names), tuple(costs), tuple(usages), tuple(edges), limit, budgets)


def apart(
    questions: Sequence[Question], prices: Prices, objective: Objective | None
) -> list[list[float]]:
    """What every candidate costs, as if no two questions shared a constant."""
    costs = prices.costs()
    if objective is None:
        return costs
    sizes = [[0 if c.layout is None else c.layout.bytes for c in q.candidates] for q in questions]
    whole = sum(max(row) for row in sizes) or 1
    return [
        [objective.time * c + objective.size * b / whole for c, b in zip(*rows, strict=True)]
        for rows in zip(costs, sizes, strict=True)
    ]


def _sets(layouts: Sequence[Sequence[Layout | None]]) -> list[frozenset[Layout]]:
    """All sets of layouts in which a constant may be stored: at most one a reader."""
    every = sorted({at for row in layouts for at in row if at is not None}, key=lambda at: at.name)
    most = min(len(layouts), len(every))
    return [frozenset(c) for size in range(1, most + 1) for c in combinations(every, size)]


def _bytes(kept: frozenset[Layout], lookup: Lookup | None) -> int:
    own = lookup is not None and all(at.name != lookup.from_layout for at in kept)
    return sum(at.bytes for at in kept) + (lookup.bytes if lookup is not None and own else 0)

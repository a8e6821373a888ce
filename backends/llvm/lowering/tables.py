"""The questions of a graph as a selection problem in plain tables.

A question is a node with a strategy for each candidate. A value that can be handed on in other
formats is a node, too, with an edge to its maker and to each of its readers. Under a memory cap
the packed constant of a question counts; a constant that several operations read, or that is looked
up too, is a node of its own, whose strategies are the sets of layouts in which it may be stored.
A fork is a node whose strategies are its ways; each of its questions has one strategy more, not to
be launched, and an edge that says with which ways it goes.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import inf
from typing import TypeVar

from tilewright.backends.kernels.family import Layout
from tilewright.backends.llvm.lowering.choice import Fork, Question
from tilewright.backends.llvm.lowering.error_budgets import ErrorBudget
from tilewright.backends.llvm.lowering.format_prices import FormatNode
from tilewright.backends.llvm.lowering.pricing import Prices

TRUST = 0.02
"""Part of their time that launches apart must be predicted to save. On AVX2 and AVX-512 predictions
for 128 and 16 rows of 384 by 3 x 384 say 0.98 to 1.01 times the time of one launch; measured were
0.99 to 1.01. What does pay saves more: f16 panels for two of three, other formats. With AMX one
launch is what pays: 1.06 predicted, 1.06 measured, 1.11 and 1.07 to 1.11 on rounded weights."""

T = TypeVar("T")


@dataclass(frozen=True)
class Tables:
    """Costs and bytes by node and strategy, edges as (nodes, row-major costs), the limit of bytes,
    the limits of errors.

    The first nodes are the questions in order, then come the values; the last ones are the forks.
    As `passes.selection.problem.Problem` takes them.
    """

    names: tuple[str, ...]
    costs: tuple[tuple[float, ...], ...]
    usages: tuple[tuple[int, ...], ...]
    edges: tuple[tuple[tuple[int, ...], tuple[float, ...]], ...]
    usage_limit: int | None
    budgets: tuple[ErrorBudget, ...] = ()
    forks: tuple[Fork, ...] = ()


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

    lookups: by name of the constant. objective: None counts time alone. The forks come last.
    """
    optional = prices.optional
    names = [q.source or str(i) for i, q in enumerate(questions)]
    costs = [_row(i in optional, row, 0.0) for i, row in enumerate(prices.costs())]
    usages = [(0,) * len(row) for row in costs]
    edges: list[tuple[tuple[int, ...], tuple[float, ...]]] = []
    for value in values:
        for question_at, rows in value.edges:
            kept = _row(question_at in optional, rows, (0.0,) * len(value.costs))
            edges.append(((question_at, len(names)), tuple(c for row in kept for c in row)))
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
        layouts = [
            _row(i in optional, [c.layout for c in questions[i].candidates], None) for i in members
        ]
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
            there = [0.0 if at is None or at in kept else inf for at in row for kept in stored]
            edges.append(((i, node), tuple(there)))
    if objective is not None:
        edges = [(at, tuple(objective.time * c for c in row)) for at, row in edges]
        whole = sum(
            max(row)
            for i, row in enumerate(usages)
            if i not in optional or len(questions[i].parts) == 1
        )
        costs = [
            tuple(
                objective.time * c + objective.size * b / (whole or 1)
                for c, b in zip(*rows, strict=True)
            )
            for rows in zip(costs, usages, strict=True)
        ]
    time = 1.0 if objective is None else objective.time
    for number, fork in enumerate(prices.forks):
        for i in fork.questions:
            count = len(questions[i].candidates)
            launched = [0.0 if i in way else inf for way in fork.ways]
            left = [inf if i in way else 0.0 for way in fork.ways]
            edges.append(((i, len(names)), (*launched * count, *left)))
        names.append(", ".join(questions[n].source for n in max(fork.ways, key=len)))
        least = min(sum(min(costs[n][:-1]) for n in way) for way in fork.ways)
        fewest = min(map(len, fork.ways))
        aside = prices.aside(number)
        costs.append(
            tuple(
                beside * time + (TRUST * least if len(way) > fewest else 0.0)
                for way, beside in zip(fork.ways, aside, strict=True)
            )
        )
        usages.append((0,) * len(fork.ways))
    return Tables(
        tuple(names),
        tuple(costs),
        tuple(usages),
        tuple(edges),
        limit,
        budgets,
        prices.forks,
    )


def _row(optional: bool, row: Sequence[T], none: T) -> tuple[T, ...]:
    """What strategies of a question have, `none` for that of not launching it if it has that."""
    return (*row, none) if optional else tuple(row)


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
    """All sets of layouts in which a constant may be stored: at most one a reader, and none if no
    reader need be launched."""
    every = sorted({at for row in layouts for at in row if at is not None}, key=lambda at: at.name)
    most = min(len(layouts), len(every))
    least = 0 if all(None in row for row in layouts) else 1
    return [frozenset(c) for size in range(least, most + 1) for c in combinations(every, size)]


def _bytes(kept: frozenset[Layout], lookup: Lookup | None) -> int:
    own = lookup is not None and all(at.name != lookup.from_layout for at in kept)
    return sum(at.bytes for at in kept) + (lookup.bytes if lookup is not None and own else 0)

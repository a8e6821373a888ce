"""From the questions of a lowering to their answers, and why."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import sqrt

from tilewright.backends.cost.model import of_model
from tilewright.backends.kernels import f32_matmul
from tilewright.backends.kernels.row_lookup import LookupTask
from tilewright.backends.llvm.lowering.choice import Answers, Fork, Question
from tilewright.backends.llvm.lowering.error_budgets import error_budgets, predicted_squares
from tilewright.backends.llvm.lowering.format_prices import FormatNode, format_nodes
from tilewright.backends.llvm.lowering.handing import Formats
from tilewright.backends.llvm.lowering.offers import Offers, Squares
from tilewright.backends.llvm.lowering.packed import tied_tables
from tilewright.backends.llvm.lowering.pricing import Env, Measured, Prices, points, price
from tilewright.backends.llvm.lowering.state import Lowering
from tilewright.backends.llvm.lowering.tables import Lookup, Objective, Tables, apart, tables
from tilewright.backends.llvm.program import Program
from tilewright.backends.profile import MachineProfile, profile_for
from tilewright.compiler.ir.core import Value
from tilewright.compiler.ir.dims import Dim, as_int

Solve = Callable[[Tables], Sequence[int]]
"""The strategy of every node at least cost; of fewest bytes where the limit cannot be kept."""


def cheapest(problem: Tables) -> Sequence[int]:
    """Every node by itself, and every fork with its questions: what a solver finds where nothing
    else connects nodes."""
    connected = len(problem.edges) > sum(len(fork.questions) for fork in problem.forks)
    if connected or problem.usage_limit is not None or problem.budgets:
        raise ValueError("connected nodes need a solver")
    forked = {n for fork in problem.forks for n in fork.questions}
    least = [min(row[:-1] if n in forked else row) for n, row in enumerate(problem.costs)]
    found = [row.index(low) for row, low in zip(problem.costs, least, strict=True)]
    for at, fork in enumerate(problem.forks, len(found) - len(problem.forks)):
        own = zip(fork.ways, problem.costs[at], strict=True)
        sums = [cost + sum(least[n] for n in way) for way, cost in own]
        found[at] = sums.index(min(sums))
        for n in set(fork.questions) - set(fork.ways[found[at]]):
            found[n] = len(problem.costs[n]) - 1
    return found


@dataclass(frozen=True)
class Selecting:
    """How to select: what is typical of symbols, the cap of bytes, the solver, measured times, the
    threads of a run, what an error contract offers and in which units choices cost.

    The cap is of constants and arena; `arena` gives the bytes of a program's. max_size caps the
    constants alone. objective: None for time alone.
    """

    typical: Env = field(default_factory=dict)
    max_memory: int | None = None
    solve: Solve = cheapest
    measured: Measured | None = None
    arena: Callable[[Program], Dim] = lambda program: 0
    threads: int = 1
    offers: Offers | None = None
    objective: Objective | None = None
    max_size: int | None = None


@dataclass(frozen=True)
class Selection:
    """The questions of a graph with their prices and answers, for the report.

    profile: of the machine that times are predicted for. cold: whether weights were taken to come
    from beyond the caches. limit: bytes that the questions' constants could have, if any. threads:
    of the runs that times are for. values: those that could have other formats, with the number
    of the strategy of each. squares: what every candidate of every question adds to the outputs'
    squared relative errors; limits: what these may come to; both empty without a contract. forks:
    with the number of the way that is taken of each.
    """

    questions: tuple[Question, ...]
    prices: Prices
    answers: Answers
    profile: MachineProfile
    cold: bool
    limit: int | None = None
    threads: int = 1
    values: tuple[tuple[FormatNode, int], ...] = ()
    squares: tuple[tuple[Squares, ...], ...] = ()
    limits: Squares = ()
    forks: tuple[tuple[Fork, int], ...] = ()

    @property
    def launched(self) -> tuple[Question, ...]:
        """The questions that have an answer: all but those of ways that are not taken."""
        return tuple(q for q in self.questions if q.key in self.answers)

    def predicted(self) -> Squares:
        """The relative L2 error of every output that the answers are predicted to make."""
        chosen = [
            row[q.candidates.index(q.candidate(self.answers))]
            for q, row in zip(self.questions, self.squares, strict=False)
            if q.key in self.answers
        ]
        return tuple(sqrt(sum(s[i] for s in chosen)) for i in range(len(self.limits)))

    def formats(self) -> Mapping[Value, Formats]:
        """Of the values that are not stored in f32 alone."""
        return {node.handed.value: node.strategies[j] for node, j in self.values if j}

    def layouts(self) -> Mapping[str, frozenset[str]]:
        """Names of the layouts in which each constant is wanted."""
        found: dict[str, set[str]] = {}
        for question in self.launched:
            layout = question.candidate(self.answers).layout
            if layout is not None:
                found.setdefault(question.constant, set()).add(layout.name)
        return {name: frozenset(layouts) for name, layouts in found.items()}


def select(low: Lowering, how: Selecting) -> Selection:
    """Answer the questions that the lowering `low` asked."""
    questions, forks = low.choices.questions, low.choices.forks
    profile = of_model(profile_for(low.target), _read(questions))
    total = sum(weight.bytes for _, weight in low.weights.values())
    cold = total > profile.l2
    envs = points(questions, low.graph.symbols, how.typical)
    prices = price(questions, envs, low.target, profile, cold, how.measured, how.threads, forks)
    limit = None
    if how.max_memory is not None:
        # a cap takes bounds of all dimensions, so the arena is a number
        limit = how.max_memory - _fixed(low) - as_int(how.arena(low.program))
    if how.max_size is not None:
        size = how.max_size - _fixed(low)
        limit = size if limit is None else min(limit, size)
    # Edges need a solver.
    values = (
        format_nodes(low, questions, prices, profile, cold, how.threads)
        if how.solve is not cheapest
        else []
    )
    lookups = _lookups(low)
    limits = () if how.offers is None else how.offers.limits
    while True:
        squares = _squares(questions, prices, how, limit is not None)
        budgets = error_budgets(squares, limits, prices.optional)
        problem = tables(questions, prices, limit, lookups, values, budgets, how.objective)
        solved = how.solve(problem)
        if how.offers is None or not how.offers.settle(_numerics(questions, solved)):
            break
    chosen = zip(questions, solved, strict=False)  # other nodes follow, forks last
    answers = {q.key: q.candidates[j].spec for q, j in chosen if j < len(q.candidates)}
    formats = tuple(zip(values, solved[len(questions) :], strict=False))
    ways = solved[len(solved) - len(forks) :]
    return Selection(
        *(tuple(questions), prices, answers, profile, cold, limit, how.threads, formats),
        *(squares, limits, tuple(zip(forks, ways, strict=True))),
    )


def _squares(
    questions: Sequence[Question], prices: Prices, how: Selecting, capped: bool
) -> tuple[tuple[Squares, ...], ...]:
    """What every candidate adds to the errors, where a contract says."""
    if how.offers is None:
        return ()
    return predicted_squares(questions, how.offers, apart(questions, prices, how.objective), capped)


def _numerics(questions: Sequence[Question], solved: Sequence[int]) -> list[tuple[str, str, str]]:
    """Nodes, weight and chosen numerics of every operation."""
    chosen = zip(questions, solved, strict=False)
    return [
        (*part, q.candidates[j].numerics)
        for q, j in chosen
        if j < len(q.candidates)
        for part in q.parts
    ]


def _read(questions: Sequence[Question]) -> int:
    """Bytes of constants that a run reads in full, in the least layout of each."""
    found: dict[str, int] = {}
    for question in questions:
        if len(question.parts) > 1:
            continue  # its parts are questions, too
        sizes = [c.layout.bytes for c in question.candidates if c.layout is not None]
        if sizes and not isinstance(question.task, LookupTask):
            found[question.constant] = min(sizes)
    return sum(found.values())


def _fixed(low: Lowering) -> int:
    """Bytes of the constants that no question is about."""
    asked = {q.stored for q in low.choices.questions if q.constant}
    return sum(
        weight.bytes
        for key, (_, weight) in low.weights.items()
        if not (isinstance(key, tuple) and key[1:3] in asked)
    )


def _lookups(low: Lowering) -> dict[str, Lookup]:
    """Tied tables whose lookups are no questions."""
    asked = {q.constant for q in low.choices.questions if isinstance(q.task, LookupTask)}
    found = {}
    for name in tied_tables(low.graph, low.target) - asked:
        elements = low.graph.weights[name].type.elements
        assert isinstance(elements, int)
        found[name] = Lookup(f32_matmul.spec.LAYOUT, 4 * elements)
    return found

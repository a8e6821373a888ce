"""What an error contract leaves each output, and what every candidate of a question takes of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

from tilewright.backends.llvm.lowering.choice import Question
from tilewright.backends.llvm.lowering.offers import Offers, Squares


@dataclass(frozen=True)
class ErrorBudget:
    """Of one output: squared relative errors by question and candidate, and their greatest sum.

    As `passes.selection.problem.Budget`, in shares of the limit.
    """

    name: str
    spent: tuple[tuple[int, tuple[float, ...]], ...]
    limit: float = 1.0


def predicted_squares(
    questions: Sequence[Question],
    offers: Offers,
    costs: Sequence[Sequence[float]],
    capped: bool = False,
) -> tuple[tuple[Squares, ...], ...]:
    """What every candidate of every question adds to the outputs' errors. Operations that were not
    calibrated share what they were found to make together.

    costs: of every candidate, time and bytes. Where another one costs less (and, if bytes are
    capped, has fewer), and makes less error than a candidate's bits permit, these bits stand for
    its error: nothing needs to be encoded to see that it cannot win.
    """
    uncalibrated = Counter(
        c.numerics
        for q in questions
        if offers.squares(q.source, q.constant, "f32") is None
        for c in {c.numerics: c for c in q.candidates}.values()
    )
    return tuple(
        _squares(question, offers, uncalibrated, row, capped)
        for question, row in zip(questions, costs, strict=True)
    )


def error_budgets(squares: Sequence[Sequence[Squares]], limits: Squares) -> tuple[ErrorBudget, ...]:
    """One an output that may err at all, of what `predicted_squares` gave."""
    return tuple(
        ErrorBudget(
            f"error of output {output}",
            tuple((i, tuple(s[output] / limit for s in row)) for i, row in enumerate(squares)),
        )
        for output, limit in enumerate(limits)
        if limit > 0
    )


def _squares(
    question: Question,
    offers: Offers,
    shared: Counter[str],
    costs: Sequence[float],
    capped: bool,
) -> tuple[Squares, ...]:
    best: dict[str, tuple[float, int]] = {}
    for candidate, cost in zip(question.candidates, costs, strict=True):
        size = candidate.layout.bytes if capped and candidate.layout is not None else 0
        best[candidate.numerics] = min(best.get(candidate.numerics, (inf, 0)), (cost, size))
    found: dict[str, Squares] = {}
    for numerics in sorted(best, key=lambda n: best[n]):
        least = offers.floor(question.source, question.constant, numerics)
        cheaper = [found[n] for n in found if best[n][1] <= best[numerics][1]]
        if least is not None and any(_below(squares, least) for squares in cheaper):
            found[numerics] = least
            continue
        own = offers.squares(question.source, question.constant, numerics)
        if own is None:
            own = tuple(s / shared[numerics] for s in offers.others(numerics))
        found[numerics] = own
    return tuple(found[candidate.numerics] for candidate in question.candidates)


def _below(squares: Squares, least: Squares) -> bool:
    return all(a <= b for a, b in zip(squares, least, strict=True))

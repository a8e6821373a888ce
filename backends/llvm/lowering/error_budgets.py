"""What an error contract leaves each output, and what every candidate of a question takes of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

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
    questions: Sequence[Question], offers: Offers
) -> tuple[tuple[Squares, ...], ...]:
    """What every candidate of every question adds to the outputs' errors. Operations that were not
    calibrated share what they were found to make together."""
    uncalibrated = Counter(
        c.numerics
        for q in questions
        if offers.squares(q.source, q.constant, "f32") is None
        for c in {c.numerics: c for c in q.candidates}.values()
    )
    return tuple(_squares(question, offers, uncalibrated) for question in questions)


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


def _squares(question: Question, offers: Offers, shared: Counter[str]) -> tuple[Squares, ...]:
    found = []
    for candidate in question.candidates:
        own = offers.squares(question.source, question.constant, candidate.numerics)
        if own is None:
            count = shared[candidate.numerics]
            own = tuple(s / count for s in offers.others(candidate.numerics))
        found.append(own)
    return tuple(found)

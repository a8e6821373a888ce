"""What an error contract leaves each output, and what every candidate of a question takes of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import inf

from tilewright.backends.llvm.lowering.choice import Part, Question
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
    """What every candidate of every question adds to the outputs' errors: the sum over its parts.
    Operations that were not calibrated share what they were found to make together.

    costs: of every candidate, time and bytes. Where another one costs less (and, if bytes are
    capped, has fewer), and makes less error than a candidate's bits permit, these bits stand for
    its error: nothing needs to be encoded to see that it cannot win.
    """
    uncalibrated = Counter(
        numerics
        for q in questions
        if len(q.parts) == 1 and offers.squares(*q.parts[0], "f32") is None
        for numerics in {c.numerics for c in q.candidates}
    )
    return tuple(
        _squares(question, offers, uncalibrated, row, capped)
        for question, row in zip(questions, costs, strict=True)
    )


def added(squares: Iterable[Squares]) -> Squares:
    """Their sum by output."""
    return tuple(map(sum, zip(*squares, strict=True)))


def error_budgets(
    squares: Sequence[Sequence[Squares]], limits: Squares, optional: frozenset[int] = frozenset()
) -> tuple[ErrorBudget, ...]:
    """One an output that may err at all, of what `predicted_squares` gave. optional: questions that
    need not be launched, which is their last strategy."""
    return tuple(
        ErrorBudget(
            f"error of output {output}",
            tuple(
                (i, (*(s[output] / limit for s in row), *((0.0,) if i in optional else ())))
                for i, row in enumerate(squares)
            ),
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
        least = _floor(question.parts, offers, numerics)
        cheaper = [found[n] for n in found if best[n][1] <= best[numerics][1]]
        if least is not None and any(_below(squares, least) for squares in cheaper):
            found[numerics] = least
            continue
        found[numerics] = added([_own(part, offers, numerics, shared) for part in question.parts])
    return tuple(found[candidate.numerics] for candidate in question.candidates)


def _own(part: Part, offers: Offers, numerics: str, shared: Counter[str]) -> Squares:
    own = offers.squares(*part, numerics)
    if own is not None:
        return own
    return tuple(s / max(shared[numerics], 1) for s in offers.others(numerics))


def _floor(parts: Sequence[Part], offers: Offers, numerics: str) -> Squares | None:
    """What the sum is at least; None where it is known of all parts."""
    floors = [offers.floor(*part, numerics) for part in parts]
    if all(least is None for least in floors):
        return None
    pairs = zip(parts, floors, strict=True)
    known = [
        least if least is not None else offers.squares(*part, numerics) for part, least in pairs
    ]
    return added([squares for squares in known if squares is not None])


def _below(squares: Squares, least: Squares) -> bool:
    return all(a <= b for a, b in zip(squares, least, strict=True))

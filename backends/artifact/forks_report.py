"""In how many launches products of one operand are made and why, for plan.json."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tilewright.backends.kernels.candidates import Candidate
from tilewright.backends.llvm.lowering.choice import Fork, Part, Question, Way
from tilewright.backends.llvm.lowering.error_budgets import added
from tilewright.backends.llvm.lowering.select import Selection


def forks_report(selection: Selection) -> list[dict[str, Any]]:
    """Every fork: its operations and its ways, the one taken first, then by time. A way has the
    operations of each launch, its numerics, microseconds at every point, and bytes of weights.

    Of a way that was not taken the kernels are the fastest that make no greater error. What a way
    launches beside them counts in its time.
    """
    forks = enumerate(selection.forks)
    return [_fork(selection, n, fork, fork.ways[taken]) for n, (fork, taken) in forks]


def _fork(selection: Selection, number: int, fork: Fork, taken: Way) -> dict[str, Any]:
    numerics = {
        part: selection.questions[n].candidate(selection.answers).numerics
        for n in taken
        for part in selection.questions[n].parts
    }
    costs = selection.prices.costs()
    rows: list[tuple[float, dict[str, Any]]] = []
    own = _kernels(selection, taken, taken, numerics, costs)
    aside = dict(zip(fork.ways, selection.prices.aside(number), strict=True))
    beside = dict(zip(fork.ways, selection.prices.regions(number), strict=True))
    total = aside[taken] + sum(costs[n][j] for n, j in zip(taken, own, strict=True))
    size = _bytes(selection, taken, own)
    for way in fork.ways:
        found = _kernels(selection, way, taken, numerics, costs)
        launches = [[source for source, _ in selection.questions[n].parts] for n in way]
        if len(found) < len(way):
            why = "no kernel runs all of a launch with so little error"
            rows.append((float("inf"), {"launches": launches, "reason": why}))
            continue
        cost = aside[way] + sum(costs[n][j] for n, j in zip(way, found, strict=True))
        chosen = [_candidate(selection, n, j) for n, j in zip(way, found, strict=True)]
        seconds = [selection.prices.seconds[n][j] for n, j in zip(way, found, strict=True)]
        seconds.append(tuple(beside[way]))
        more = _bytes(selection, way, found) - size
        row = {
            "launches": launches,
            "numerics": [c.numerics for c in chosen],
            "microseconds": [float(f"{sum(t) * 1e6:.4g}") for t in zip(*seconds, strict=True)],
            "weight_bytes": size + more,
            "reason": _reason(cost / total, more, len(fork.ways), way == taken),
        }
        rows.append((-1.0 if way == taken else cost, row))
    parts = [source for source, _ in numerics]
    return {"sources": parts, "ways": [row for _, row in sorted(rows, key=lambda r: r[0])]}


def _kernels(
    selection: Selection,
    way: Way,
    taken: Way,
    numerics: dict[Part, str],
    costs: Sequence[Sequence[float]],
) -> list[int]:
    """The candidate of every question of a way; fewer where one has none."""
    found = []
    for n in way:
        question = selection.questions[n]
        if n in taken:
            found.append(question.candidates.index(question.candidate(selection.answers)))
            continue
        could = [j for j in range(len(question.candidates)) if _exact(selection, n, j, numerics)]
        if could:
            found.append(min(could, key=lambda j: costs[n][j]))
    return found


def _exact(selection: Selection, n: int, j: int, numerics: dict[Part, str]) -> bool:
    """Whether a candidate makes no greater error than what its parts run in."""
    if not selection.limits:
        return True
    question = selection.questions[n]
    # What has no weights may be a launch of its own in one way and part of another in the other.
    wanted = {numerics[part] for part in question.parts if part in numerics}
    if not wanted:
        return True
    if len(wanted) == 1:
        return {question.candidates[j].numerics} == wanted
    alone = {q.parts[0]: i for i, q in enumerate(selection.questions) if len(q.parts) == 1}
    now = added([_squares(selection, alone[part], numerics[part]) for part in question.parts])
    mine = selection.squares[n][j]
    return all(a <= b for a, b in zip(mine, now, strict=True))


def _squares(selection: Selection, n: int, numerics: str) -> tuple[float, ...]:
    question = selection.questions[n]
    pairs = zip(question.candidates, selection.squares[n], strict=True)
    return next(squares for candidate, squares in pairs if candidate.numerics == numerics)


def _candidate(selection: Selection, n: int, j: int) -> Candidate:
    question: Question = selection.questions[n]
    return question.candidates[j]


def _bytes(selection: Selection, way: Way, found: Sequence[int]) -> int:
    layouts = [_candidate(selection, n, j).layout for n, j in zip(way, found, strict=True)]
    return sum(layout.bytes for layout in layouts if layout is not None)


def _reason(ratio: float, more: int, ways: int, taken: bool) -> str:
    if taken:
        return "chosen" if ways > 1 else "chosen: no numerics are allowed for several of them"
    slower = f"{ratio:.3f} times the time"
    if ratio >= 1:
        return slower
    return (
        f"{slower}, but {more:,} bytes larger" if more > 0 else f"{slower}, but not beside others"
    )

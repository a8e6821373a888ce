"""Which dimensions to shrink under an error bound, and how far: by ILP."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf, isfinite, sqrt

from tilewright.passes.prices import Times, together
from tilewright.passes.rewrites import Rewrite
from tilewright.passes.selection.ilp import solve
from tilewright.passes.selection.problem import Budget, Node, Problem
from tilewright.passes.shrinking.rungs import Ladder, Rung

GAIN = 0.02
"""Part of the time, or of the numbers, of all products with a ladder that a choice must save: it
costs another calibration, and predictions are no finer."""

Chosen = Mapping[Ladder, Rung]


def choose(found: Sequence[Ladder], limits: Sequence[float], by_size: bool) -> dict[Ladder, Rung]:
    """The rungs that save most, all together within the squared errors `limits`; none for less
    than GAIN.

    by_size: they save numbers that are stored, not predicted time.
    """
    if not found:
        return {}
    nodes, budgets = [], []
    whole = together(*(_times(ladder, ladder.size, by_size) for ladder in found))
    for ladder in found:
        kept = (ladder.size, *(rung.kept for rung in ladder.rungs))
        nodes.append(Node(tuple(_share(_times(ladder, k, by_size), whole) for k in kept)))
    for i, limit in enumerate(limits):
        spent = ((0.0, *(rung.squares[i] for rung in ladder.rungs)) for ladder in found)
        budgets.append(Budget(f"error of output {i}", tuple(enumerate(spent)), limit))
    best = solve(Problem(tuple(nodes), budgets=tuple(budgets)))
    if best.cost >= (1 - GAIN) * sum(node.costs[0] for node in nodes):
        return {}
    picked = zip(found, best.choice, strict=True)
    return {ladder: ladder.rungs[at - 1] for ladder, at in picked if at}


def _times(ladder: Ladder, kept: int, by_size: bool) -> Times:
    """Numbers stored, or seconds on every target at every size."""
    return (float(ladder.numbers(kept)),) if by_size else ladder.times(kept)


def _share(times: Sequence[float], whole: Sequence[float]) -> float:
    """Of the time of all ladders, over all sizes; nothing is known of what no kernel takes."""
    known = [(t, w) for t, w in zip(times, whole, strict=True) if isfinite(w)]
    return sum(t / w for t, w in known)


def record(
    found: Sequence[Ladder], chosen: Chosen, limits: Sequence[float], worse: str = ""
) -> list[Rewrite]:
    """What was found of each dimension, and what was made of it. worse: why a choice was given up
    after all."""
    return [_row(ladder, chosen.get(ladder), limits, worse) for ladder in found]


def _row(ladder: Ladder, rung: Rung | None, limits: Sequence[float], worse: str) -> Rewrite:
    shown = rung or ladder.rungs[0]
    gone = ladder.size - shown.kept
    what = (
        f"{ladder.what}: without {gone} of {ladder.size} sums are {shown.local:.2%} off, "
        f"of independent ones {sqrt(gone / ladder.size):.2%}"
    )
    # The output whose limit is nearest, or furthest exceeded.
    square, limit = max(zip(shown.squares, limits, strict=True), key=_ratio, default=(0.0, inf))
    error = f"predicted error {sqrt(square):.2g}"
    if rung is not None:
        text = f"{rung.kept} of {ladder.size} stay, {error}" + (f"; {worse}" if worse else "")
    elif square > limit:
        text = f"{error}, {sqrt(limit):.2g} is allowed"
    else:
        text = f"{error}, but it saves too little"
    return Rewrite(ladder.source, ladder.weight, what, rung is not None and not worse, text)


def _ratio(pair: tuple[float, float]) -> float:
    square, limit = pair
    return square / limit if limit else inf

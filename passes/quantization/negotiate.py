"""Choose, build, measure; choose again under another budget until the contract is kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import inf, sqrt
from typing import Generic, TypeVar

from tilewright.compiler.contract import Errors, Round
from tilewright.passes.quantization.terms import Terms
from tilewright.passes.selection.problem import InfeasibleError

ROUNDS = 6
"""How many choices are built and measured at most."""

MARGIN = 0.9
"""Share of the corrected budget that the next choice gets: errors do not add exactly."""

ENOUGH = 0.8
"""Part of the bound that a choice must use for nothing looser to be tried."""

BINDING = 0.7
"""Part of its budget that a choice must be predicted to use for a larger one to change it."""

STEP = 16.0
"""By how much a budget changes at most from one round to the next."""

LOOSEST = 1e4
"""Share up to which a budget that permits no choice is raised, where it was only a guess."""

ROOM = 1.02
"""By how much a budget that permits no choice is raised beyond the least that would: predictions
become a little worse when all weights of a choice are encoded."""

CLOSE = 1.3
"""Ratio of two budgets between which nothing is tried."""

FULLY, NEAR = 0.93, 1.08
"""ENOUGH and CLOSE where bytes are made least: they fall with every part of the bound, where times
hardly do: codelm under 2 and 5 % is 3.2 and 2.4 % smaller by a second round."""

Built = TypeVar("Built")


@dataclass(frozen=True)
class Verdict:
    """What was measured of a build: relative L2 errors by output, and the change of a metric if the
    bound is on that."""

    errors: Errors
    change: float | None = None

    def used(self, bound: float) -> float:
        """In units of the bound; more than 1 breaks it."""
        worst = max(self.errors, default=0.0) if self.change is None else self.change
        if bound > 0:
            return max(worst, 0.0) / bound
        return 0.0 if worst <= 0 else inf


@dataclass(frozen=True)
class Kept(Generic[Built]):
    """The build of the largest budget that keeps the contract, which round it is, and all rounds
    that led to it."""

    built: Built
    chosen: int
    rounds: tuple[Round, ...]


class Broken(Exception):
    """No round kept the contract. rounds: all of them; used: the least that one used of the bound,
    in units of it."""

    def __init__(self, rounds: tuple[Round, ...], used: float) -> None:
        super().__init__(f"the contract was not kept in {len(rounds)} rounds")
        self.rounds, self.used = rounds, used


def negotiate(
    terms: Terms,
    bound: float,
    build: Callable[[Terms], tuple[Built, Errors]],
    judge: Callable[[Built], Verdict],
    guessed: bool = False,
    thorough: bool = False,
) -> Kept[Built]:
    """Build under `terms`, with a tighter budget where the bound is broken and a looser one where
    it is far from used.

    build gives what was built and the errors that it is predicted to make. Squared errors nearly
    add, so that the budget is corrected by the square of what was measured over what was allowed;
    the change of a metric counts as a square. A budget that permits no choice is raised to what the
    choice of least error takes, the first one only if it was guessed and is no part of the
    contract. thorough: use nearly all of the bound. Raises `Broken` after ROUNDS, and what `build`
    raises under the first terms.
    """
    enough, close = (FULLY, NEAR) if thorough else (ENOUGH, CLOSE)
    rounds: tuple[Round, ...] = ()
    best: Kept[Built] | None = None
    low, broken_share, least = 0.0, inf, inf  # low: nothing below is worth a round
    while len(rounds) < ROUNDS:
        try:
            built, predicted = build(terms)
        except InfeasibleError as tight:
            known = tight.limit != "memory" and tight.least < inf
            least_share = terms.share * (tight.least if known else 1.0)
            if not rounds and (not guessed or least_share > LOOSEST):
                raise
            low = max(low, least_share)
            if broken_share < close * low:
                break
            share = low * ROOM if known else min(low * STEP, sqrt(low * broken_share))
            terms = terms.tightened(share / terms.share)
            continue
        verdict = judge(built)
        used = verdict.used(bound)
        least = min(least, used)
        made = Round(terms.share, predicted, verdict.errors, used <= 1, verdict.change)
        rounds = (*rounds, made)
        if made.kept:
            best, low = Kept(built, len(rounds) - 1, rounds), terms.share
            if used >= enough or not _binds(terms, predicted):
                break
        else:
            broken_share = terms.share
        if broken_share < close * low:
            break
        power = 2 if verdict.change is None else 1
        factor = MARGIN / used**power if used else STEP
        share = terms.share * min(max(factor, 1 / STEP), STEP)
        if low and not low * close < share < broken_share / close:
            if broken_share == inf:
                break
            share = sqrt(low * broken_share)
        terms = terms.tightened(share / terms.share)
    if best is None:
        raise Broken(rounds, least)
    return Kept(best.built, best.chosen, rounds)


def _binds(terms: Terms, predicted: Errors) -> bool:
    """Whether a choice may have been another under a larger budget."""
    return any(
        error**2 >= BINDING * limit for error, limit in zip(predicted, terms.limits, strict=True)
    )

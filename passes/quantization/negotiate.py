"""Choose, build, measure; choose again under a tighter budget until the contract is kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from tilewright.passes.quantization.terms import Terms

ROUNDS = 6
"""How often a choice is built and measured before the contract counts as impossible."""

MARGIN = 0.9
"""Share of the corrected budget that the next choice gets: errors do not add exactly."""

Built = TypeVar("Built")


@dataclass(frozen=True)
class Round:
    """One choice: the share of the budget that it had, and the errors that were measured, by
    output."""

    share: float
    errors: tuple[float, ...]


@dataclass(frozen=True)
class Kept(Generic[Built]):
    """A build that keeps the contract, and all rounds that led to it."""

    built: Built
    rounds: tuple[Round, ...]


class Broken(Exception):
    """No round kept the contract. rounds: all of them."""

    def __init__(self, rounds: tuple[Round, ...]) -> None:
        super().__init__(f"the contract was not kept in {len(rounds)} rounds")
        self.rounds = rounds


def negotiate(
    terms: Terms,
    build: Callable[[Terms], Built],
    measure: Callable[[Built], tuple[float, ...]],
) -> Kept[Built]:
    """Build under `terms`, tightening them until no output's measured error exceeds the bound.

    Squared errors nearly add, so that the budget is corrected by the square of what was measured
    over what was allowed. Raises `Broken` after ROUNDS, and what `build` raises.
    """
    rounds: tuple[Round, ...] = ()
    for _ in range(ROUNDS):
        built = build(terms)
        errors = measure(built)
        rounds = (*rounds, Round(terms.share, errors))
        worst = max(errors, default=0.0)
        if worst <= terms.bound:
            return Kept(built, rounds)
        terms = terms.tightened(MARGIN * (terms.bound / worst) ** 2)
    raise Broken(rounds)

"""The loop of the contract on a made-up world, where errors are known functions of the budget."""

from dataclasses import dataclass
from math import sqrt

import pytest

from tilewright.passes.quantization.losing import losing
from tilewright.passes.quantization.negotiate import ROOM, ROUNDS, Broken, Verdict, negotiate
from tilewright.passes.selection.problem import InfeasibleError


@dataclass(frozen=True)
class Budget:
    """What `Terms` is to the loop."""

    bound: float
    share: float = 1.0

    @property
    def limits(self):
        return (self.bound**2 * self.share,)

    def tightened(self, factor):
        return Budget(self.bound, self.share * factor)


class World:
    """A choice uses `use` of its budget, and its error is `wrong` times what is predicted."""

    def __init__(self, wrong, use=lambda limit: limit, least=0.0):
        self.wrong, self.use, self.least = wrong, use, least

    def build(self, terms):
        (limit,) = terms.limits
        if limit < self.least:
            raise InfeasibleError("error of output 0", self.least / limit)
        error = sqrt(self.use(limit))
        return error, (error,)

    def judge(self, error):
        return Verdict((self.wrong * error,))


def kept(world, bound=0.1):
    return negotiate(Budget(bound), bound, world.build, world.judge)


def test_a_right_prediction_takes_one_round():
    found = kept(World(0.95))
    assert [r.kept for r in found.rounds] == [True]
    assert found.built == pytest.approx(0.1)


def test_the_rest_of_a_bound_is_used_where_bytes_count():
    assert len(kept(World(0.87)).rounds) == 1
    world = World(0.87)
    found = negotiate(Budget(0.1), 0.1, world.build, world.judge, thorough=True)
    assert [r.kept for r in found.rounds] == [True, True]
    assert found.chosen == 1
    assert found.rounds[1].share == pytest.approx(0.9 / 0.87**2)
    assert found.rounds[1].measured[0] == pytest.approx(0.1 * sqrt(0.9))
    world = World(0.94)
    found = negotiate(Budget(0.1), 0.1, world.build, world.judge, thorough=True)
    assert len(found.rounds) == 1


def test_a_low_prediction_is_tightened_by_what_was_measured():
    found = kept(World(1.5))
    first, second = found.rounds
    assert (first.kept, second.kept) == (False, True)
    assert second.share == pytest.approx(0.9 / 1.5**2)
    assert second.measured[0] == pytest.approx(0.1 * sqrt(0.9))
    assert second.predicted[0] == pytest.approx(found.built)


def test_a_high_prediction_is_loosened():
    found = kept(World(0.5))
    assert found.chosen == len(found.rounds) - 1
    assert 0.08 <= found.rounds[-1].measured[0] <= 0.1


def test_what_does_not_use_its_budget_is_not_loosened():
    found = kept(World(1.0, use=lambda limit: min(limit, 1e-6)))
    assert len(found.rounds) == 1


def test_the_best_that_was_kept_is_taken():
    """Looser than 1.5 times the budget the error jumps."""
    world = World(0.5, use=lambda limit: limit if limit < 0.015 else 9 * limit)
    found = kept(world)
    assert found.rounds[found.chosen].kept
    assert not all(r.kept for r in found.rounds)
    assert found.built == max(r.predicted[0] for r in found.rounds if r.kept)


def test_a_bound_that_is_never_kept():
    with pytest.raises(Broken) as raised:
        kept(World(1.0, use=lambda limit: 0.04))
    assert len(raised.value.rounds) == ROUNDS
    assert raised.value.used == pytest.approx(2.0)


def test_a_budget_below_the_least_error():
    with pytest.raises(InfeasibleError):
        kept(World(1.0, least=0.02))
    with pytest.raises(Broken) as raised:
        kept(World(3.0, least=0.009))
    assert len(raised.value.rounds) == 1


def test_a_budget_that_was_only_a_guess_is_raised():
    world = World(1.0, least=0.5)
    found = negotiate(Budget(0.1), 1.0, world.build, world.judge, guessed=True)
    (made, *_) = found.rounds
    assert made.share == pytest.approx(0.5 / 0.01 * ROOM)
    assert found.built <= 1.0
    with pytest.raises(InfeasibleError):
        negotiate(Budget(0.1), 1.0, World(1.0, least=1e9).build, world.judge, guessed=True)


def test_between_what_permits_nothing_and_what_breaks_the_bound():
    """Errors are twice what is predicted, and no choice makes less than a third of the bound."""
    found = kept(World(2.0, least=0.0018))
    assert not found.rounds[0].kept
    assert found.rounds[-1].kept
    assert 0.0018 <= found.rounds[-1].share * 0.01 <= 0.0025


def test_a_bound_of_zero():
    assert kept(World(0.0), bound=0.0).rounds[0].kept
    exact = World(0.0, use=lambda limit: 1.0)
    assert kept(exact, bound=0.0).rounds[0].measured == (0.0,)


@pytest.mark.parametrize(("factor", "rounds"), [(1.0, 1), (0.01, 3), (30.0, 3)])
def test_the_change_of_a_metric_decides(factor, rounds):
    """A metric that grows by `factor` times the square of the error; at most 4e-4 is allowed."""
    world = World(1.0)

    def judge(error):
        return Verdict((error,), factor * error**2)

    found = negotiate(Budget(0.02), 4e-4, world.build, judge)
    last = found.rounds[found.chosen]
    assert len(found.rounds) <= rounds
    assert last.kept
    assert last.change is not None
    assert 2e-4 < last.change <= 4e-4


def test_formats_that_lost_time():
    formats = {"a": "w8", "b": "w8", "c": "w4"}
    plain = {"a": 2.0, "b": 2.0, "c": 1.0}
    assert losing(formats, {"a": 1.0, "b": 2.9, "c": 1.5}, plain) == {"w4"}
    assert losing(formats, {"a": 1.0, "b": 3.1, "c": 0.5}, plain) == {"w8"}
    assert losing(formats, plain, plain) == {"w4", "w8"}

"""Plans over symbolic sizes, and the validator that every plan passes."""

import random

import pytest

from tilewright.compiler.ir.core import Symbol
from tilewright.compiler.ir.dims import Dim, dmax, evaluate, sym
from tilewright.passes.memory import stacking
from tilewright.passes.memory.plan import Lifetime, Plan, plan_memory
from tilewright.passes.memory.problem import (
    ALIGNMENT,
    Buffer,
    PlanError,
    height,
    max_live,
    validate,
)

n, m = sym("n"), sym("m")
BOUNDED = {"n": Symbol(1, 64, ("shape", 0, 0)), "m": Symbol(0, 16, ("shape", 0, 1))}
OPEN = {"n": Symbol(1, None, ("shape", 0, 0)), "m": Symbol(0, 16, ("shape", 0, 1))}


def disjoint(rows: list[Lifetime], plan: Plan, env: dict[str, int]) -> None:
    """No two buffers share a byte while both exist, at the symbol values `env`."""
    sized = [
        Buffer(r.name, r.lower, r.upper, -(-evaluate(r.bytes, env) // ALIGNMENT) * ALIGNMENT)
        for r in rows
    ]
    offsets = [evaluate(o, env) for o in plan.offsets]
    validate(sized, offsets, evaluate(plan.arena, env), ALIGNMENT)


def random_rows(rng: random.Random, count: int) -> list[Lifetime]:
    rows = []
    for i in range(count):
        start = rng.randrange(20)
        size: Dim = rng.choice(
            [0, 1, 64, 100, n, 4 * n, n * m, 64 * m + 4, 1000 - 8 * m, dmax(n, 10 * m), n * n]
        )
        rows.append(Lifetime(f"b{i}", start, start + rng.randrange(1, 8), size))
    return rows


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("table", [BOUNDED, OPEN], ids=["bounded", "open"])
def test_random_plans_hold_for_all_sizes(seed: int, table: dict[str, Symbol]) -> None:
    rng = random.Random(seed)
    rows = random_rows(rng, rng.randrange(1, 30))
    plan = plan_memory(rows, table, exact_seconds=0.2)
    assert plan.nominal >= plan.bound
    assert plan.method != "slots" or table is OPEN
    for nv, mv in [(1, 0), (1, 16), (64, 0), (64, 16), (3, 5), *([(4000, 3)] * (table is OPEN))]:
        disjoint(rows, plan, {"n": nv, "m": mv})


def test_offsets_are_numbers_when_sizes_are_bounded_and_expressions_when_not() -> None:
    rows = [Lifetime("a", 0, 2, 4 * n), Lifetime("b", 1, 3, 8 * n), Lifetime("c", 2, 4, 4 * n)]
    closed = plan_memory(rows, BOUNDED)
    assert all(isinstance(o, int) for o in closed.offsets)
    assert closed.arena == closed.bound == 768
    assert closed.env == {"n": 64}
    open_ = plan_memory(rows, OPEN)
    assert open_.method == "stacks"
    assert open_.offsets[0] == open_.offsets[2], "a and c never meet"
    assert evaluate(open_.arena, {"n": 1000}) == 4032 + 8000
    assert open_.worst.arena == open_.worst.bound


def side_by_side() -> list[Lifetime]:
    """Two small buffers where a large one was: shared slots waste what a stack fills."""
    return [
        Lifetime("large", 0, 2, 128 * n),
        Lifetime("left", 2, 4, 64 * n),
        Lifetime("right", 2, 4, 64 * n),
        Lifetime("beside", 1, 3, 64 * n),
    ]


def test_a_stack_is_as_low_as_its_packing_where_slots_are_not() -> None:
    rows = side_by_side()
    plan = plan_memory(rows, OPEN)
    assert plan.method == "stacks"
    for at in (1, 7, 1000):
        assert evaluate(plan.arena, {"n": at}) == 192 * at
        disjoint(rows, plan, {"n": at})


def test_slots_take_over_when_expressions_grow_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = side_by_side()
    monkeypatch.setattr(stacking, "LARGEST", 0)
    plan = plan_memory(rows, OPEN)
    assert plan.method == "slots"
    assert evaluate(plan.arena, {"n": 7}) == 256 * 7
    assert plan.worst.arena * 3 == plan.worst.bound * 4
    disjoint(rows, plan, {"n": 77})


def test_samples_tell_where_an_arena_is_worst() -> None:
    """What lies lowest at one size lies highest at another: no order is best for both."""
    rows = [Lifetime(f"b{i}", i % 3, i % 3 + 2, size) for i, size in enumerate([n * n, 640, n, 64])]
    plan = plan_memory(rows, OPEN)
    for sample in (plan.worst, *plan.samples):
        assert sample.arena == evaluate(plan.arena, sample.env)
        sized = [Buffer("", r.lower, r.upper, -(-evaluate(r.bytes, sample.env) // 64) * 64)
                 for r in rows]  # fmt: skip
        assert sample.bound == max_live(sized)
    assert {s.env["n"] for s in plan.samples} == {1, 11}
    assert plan.env == {"n": 128}


def test_nothing_to_place() -> None:
    plan = plan_memory([], {})
    assert (plan.offsets, plan.arena, plan.bound) == ((), 0, 0)
    assert plan_memory([Lifetime("never used", 0, 0, 64)], {}).offsets == (0,)


def test_max_live_is_the_greatest_sum_at_one_step() -> None:
    rows = [Buffer("a", 0, 3, 5), Buffer("b", 2, 4, 7), Buffer("c", 3, 5, 6), Buffer("d", 2, 2, 99)]
    assert max_live(rows) == 13
    assert max_live([]) == 0
    assert height(rows[:2], [0, 5]) == 12


GOOD = [Buffer("a", 0, 4, 64), Buffer("b", 2, 6, 128), Buffer("c", 4, 8, 64)]


@pytest.mark.parametrize(
    ("offsets", "arena", "alignment", "message"),
    [
        ([0, 64, 0], 192, 64, None),
        ([0, 63, 0], 192, 1, "b at 63 and a at 0 overlap"),
        ([0, 64, 128], 192, 64, "c at 128 and b at 64 overlap"),
        ([0, 64, 191], 300, 1, "c at 191 and b at 64 overlap"),
        ([0, 64, 192], 255, 64, "c at 192.64 leaves the arena of 255 bytes"),
        ([-64, 64, 0], 192, 64, "a at -64.64 leaves the arena"),
        ([0, 96, 0], 224, 64, "b at 96 is not aligned to 64"),
        ([0, 64], 192, 64, "3 buffers but 2 offsets"),
    ],
)
def test_the_validator_catches_planted_mistakes(
    offsets: list[int], arena: int, alignment: int, message: str | None
) -> None:
    if message is None:
        validate(GOOD, offsets, arena, alignment)
    else:
        with pytest.raises(PlanError, match=message):
            validate(GOOD, offsets, arena, alignment)


def test_touching_in_time_or_in_space_is_allowed() -> None:
    validate([Buffer("a", 0, 2, 64), Buffer("b", 2, 4, 64)], [0, 0], 64)
    validate([Buffer("a", 0, 4, 64), Buffer("b", 0, 4, 64)], [64, 0], 128)


def test_a_wrong_packer_does_not_get_past_the_planner(monkeypatch: pytest.MonkeyPatch) -> None:
    from tilewright.passes.memory import plan as module

    rows = [Lifetime("a", 0, 2, 64), Lifetime("b", 1, 3, 64)]
    monkeypatch.setattr(module, "pack_greedy", lambda buffers: [0] * len(buffers))
    with pytest.raises(PlanError, match="overlap"):
        plan_memory(rows, {})
    monkeypatch.undo()
    monkeypatch.setattr(module, "stack", lambda *given: ([0, 0], 64 * n))
    rows = [Lifetime("a", 0, 2, n), Lifetime("b", 1, 3, n)]
    with pytest.raises(PlanError, match="overlap"):
        plan_memory(rows, OPEN)


def test_sizes_from_integer_inputs_are_judged_where_they_can_be() -> None:
    """Their symbols have the bounds of i64, and no buffer a negative size."""
    table = {"n": Symbol(-(1 << 63), (1 << 63) - 1, ("value", 0, 0))}
    rows = [Lifetime("a", 0, 2, 48 * n), Lifetime("b", 1, 3, 24 * n), Lifetime("c", 2, 4, 4 * n)]
    plan = plan_memory(rows, table)
    assert plan.samples[0].env == {"n": 0}
    for nv in (0, 1, 1000):
        disjoint(rows, plan, {"n": nv})

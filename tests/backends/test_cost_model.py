"""The cost model: what must hold whatever the constants are."""

from dataclasses import replace

import pytest

from tilewright.backends.cost.model import explain, of_cost, of_model, predict
from tilewright.backends.kernels.family import UNITS, Cost
from tilewright.backends.kernels.registry import families
from tilewright.backends.profile import MachineProfile, shipped
from tilewright.backends.target import TARGETS

PROFILE = shipped()["sapphirerapids"]
BASE = Cost(flops=10**9, bytes=10**6, weights=10**5)


@pytest.mark.parametrize("family", families().values(), ids=families())
def test_every_family_has_a_time_on_every_target_it_serves(family) -> None:
    for case in family.cases():
        for target in TARGETS.values():
            if family.serves(target):
                profile = shipped()[target.name]
                parts = explain(family, case.spec, case.dims, target, profile)
                assert 0 < parts.seconds < 10, case.label
                assert parts.launch > 0
                warm = predict(family, case.spec, case.dims, target, profile, cold=False)
                assert warm <= parts.seconds, case.label


@pytest.mark.parametrize(
    "more",
    [
        {"issued": 2 * 10**9},
        {"streamed": 10**10},
        {"weights": 10**9},
        {"converted": 10**7},
        {"epilogue": 10**8},
        {"written": 10**9},
        {"blocks": 10**6},
    ],
)
def test_more_work_takes_longer(more: dict[str, int]) -> None:
    assert of_cost(replace(BASE, **more), 1, PROFILE).seconds > of_cost(BASE, 1, PROFILE).seconds


def test_a_faster_unit_takes_less() -> None:
    times = {unit: of_cost(replace(BASE, unit=unit), 1, PROFILE).compute for unit in UNITS}
    assert times["int8_tile"] < times["bf16_tile"] < times["f32"]


def test_a_weight_bound_launch_runs_at_the_bandwidth() -> None:
    cost = Cost(flops=10**6, bytes=10**8, weights=10**8)
    seconds = of_cost(cost, 1, PROFILE).far
    assert seconds == pytest.approx(1e8 / (PROFILE.read.l3.one * PROFILE.fit.far))


def test_passes_over_weights_count_when_they_do_not_fit() -> None:
    small, large = (Cost(10**6, w, weights=w, passes=3) for w in (PROFILE.l2 // 4, PROFILE.l2 * 2))
    far = PROFILE.read.l3.one * PROFILE.fit.far
    assert of_cost(small, 1, PROFILE).far == pytest.approx(PROFILE.l2 / 4 / far)
    assert of_cost(large, 1, PROFILE).far == pytest.approx(PROFILE.l2 * 6 / far)


def test_results_go_to_the_level_that_holds_the_operands() -> None:
    read, part = PROFILE.read, PROFILE.fit.store
    for size, level in (
        (PROFILE.l2, read.l2),
        (PROFILE.l2 * 2, read.l3),
        (PROFILE.l3 * 2, PROFILE.write),
    ):
        parts = of_cost(Cost(10**6, size, written=10**6), 1, PROFILE)
        assert parts.store == pytest.approx(1e6 / (level.one * part))
    # They are not read as operands are.
    reads, writes = (of_cost(Cost(10**6, 10**7, written=w), 1, PROFILE) for w in (0, 10**7))
    assert reads.far > 0
    assert writes.far == 0


@pytest.mark.parametrize("family", families().values(), ids=families())
def test_written_are_the_results(family) -> None:
    case = next(case for case in family.cases() if any(r.nbytes for r in case.results))
    cost = family.cost(case.spec, case.dims, TARGETS["sapphirerapids"])
    # Results of a case may be views of larger buffers, with gaps between rows.
    assert 0 < cost.written <= cost.bytes
    assert cost.written <= sum(r.nbytes for r in case.results)


def test_weights_beyond_l3_come_from_dram() -> None:
    dram = PROFILE.read.dram.one
    sizes = (PROFILE.l3 // 2, 3 * PROFILE.l3 // 4, PROFILE.l3, 2 * PROFILE.l3)
    models = [of_model(PROFILE, size) for size in sizes]

    def seconds(cost: Cost) -> list[float]:
        found = [of_cost(cost, 1, profile) for profile in models]
        return [parts.seconds - parts.launch for parts in found]

    # Nothing but weights: at the bandwidth of the level, or between both.
    fits, mixed, exceeds, more = seconds(Cost(flops=1, bytes=10**7, weights=10**7, streamed=1))
    assert fits == pytest.approx(1e7 / (PROFILE.read.l3.one * PROFILE.fit.far), rel=1e-3)
    assert exceeds == more == pytest.approx(1e7 / dram)
    assert mixed == pytest.approx((fits + exceeds) / 2, rel=1e-3)
    # Much to compute hides them, if they are asked for.
    long = Cost(flops=10**10, bytes=10**7, weights=10**7)
    assert len(set(seconds(long))) == 1
    fits, mixed, exceeds, _ = seconds(replace(long, asked=False))
    assert exceeds - fits == pytest.approx(
        1e7 / dram - 1e7 / (PROFILE.read.l3.one * PROFILE.fit.far)
    )
    assert fits < mixed < exceeds
    warm = [of_cost(replace(long, asked=False), 1, p, cold=False).seconds for p in models]
    assert len(set(warm)) == 1
    # What a model makes of a profile is no other machine.
    seen = of_model(PROFILE, PROFILE.l3)
    assert (seen.digest, seen.to_json()) == (PROFILE.digest, PROFILE.to_json())


def test_threads_share_whole_units() -> None:
    one = of_cost(BASE, 8, PROFILE).seconds
    two, uneven = (of_cost(BASE, units, PROFILE, threads=2).seconds for units in (8, 3))
    assert 0.5 * one <= two < 0.6 * one
    assert uneven > 1.2 * two
    assert of_cost(BASE, 1, PROFILE, threads=2).seconds >= one


def test_a_machine_without_the_unit_is_refused() -> None:
    with pytest.raises(ValueError, match="no rate of int8_tile"):
        of_cost(replace(BASE, unit="int8_tile"), 1, shipped()["x86-64-v3"])


def test_a_family_has_a_factor() -> None:
    slow = replace(PROFILE, fit=replace(PROFILE.fit, family={"f": 3.0}))
    plain, other, three = (
        of_cost(BASE, 1, profile, family=name)
        for profile, name in ((PROFILE, "f"), (slow, "g"), (slow, "f"))
    )
    assert other == replace(plain, seconds=other.seconds)
    work = other.seconds - other.launch
    assert three.seconds == pytest.approx(3 * work + other.launch)
    assert MachineProfile.from_json(slow.to_json()) == slow


def test_threads_convert_and_read_what_their_units_need() -> None:
    cost = replace(BASE, converted=10**8, weights=PROFILE.l2 // 2, bytes=PROFILE.l2)
    alone = of_cost(cost, 8, PROFILE)
    one_block = of_cost(cost, 8, PROFILE, threads=2)
    blocks = of_cost(replace(cost, passes=4), 8, PROFILE, threads=2)
    pace = PROFILE.fit.together
    far = PROFILE.fit.far_together * PROFILE.read.l3.two / PROFILE.read.l3.one
    # One block of rows: each thread has half of the columns, and converts all rows.
    assert one_block.convert == pytest.approx(alone.convert / pace)
    assert one_block.far == pytest.approx(alone.far / 2 / far)
    # Four: each has two, and all of the weights.
    assert blocks.convert == pytest.approx(alone.convert / 2 / pace)
    assert blocks.far == pytest.approx(alone.far / far)

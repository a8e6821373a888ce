"""Prices of launches on GPUs: waves of blocks, arithmetic beside memory."""

from dataclasses import replace

from tilewright.backends.cost import gpu
from tilewright.backends.kernels.family import Cost
from tilewright.backends.profile import shipped

PROFILE = shipped()["sm_90a"]
BUSY = Cost(flops=10**12, bytes=10**6, unit="bf16_tile")
MOVING = Cost(flops=10**6, bytes=10**6, unit="bf16_tile")


def test_the_last_wave_takes_as_long_as_a_full_one() -> None:
    cores = PROFILE.cores
    whole, begun, two = (
        gpu.parts(BUSY, units, PROFILE, False)[0] for units in (cores, cores + 1, 2 * cores)
    )
    assert whole == two
    assert begun > 1.9 * whole
    assert gpu.parts(BUSY, 1, PROFILE, False)[0] > 0.99 * cores * whole


def test_operands_beyond_the_cache_and_cold_weights_come_from_dram() -> None:
    def beyond(cost: Cost, cold: bool) -> float:
        return gpu.parts(cost, 1000, PROFILE, cold)[2]

    assert beyond(MOVING, True) == beyond(MOVING, False) == 0
    weights = replace(MOVING, weights=10**6)
    assert beyond(weights, False) == 0
    assert beyond(weights, True) == 10**6 / PROFILE.read.dram.one
    large = replace(MOVING, bytes=PROFILE.l2 + 1)
    assert beyond(large, False) == (PROFILE.l2 + 1) / PROFILE.read.dram.one


def test_few_blocks_draw_less_of_the_bandwidth() -> None:
    few, many = (gpu.parts(MOVING, units, PROFILE, False)[1] for units in (1, PROFILE.cores))
    assert few == many * gpu.DRAWN * PROFILE.cores


def test_measured_times_take_the_place_of_counts() -> None:
    known = replace(BUSY, nanoseconds=7000)
    assert gpu.parts(known, 1, PROFILE, False)[0] == 7000 * 1e-9

"""Prices of launches on GPUs: waves of blocks, arithmetic beside memory."""

from dataclasses import replace
from typing import Any

import pytest

from tilewright.backends.cost import gpu
from tilewright.backends.cost.model import predict
from tilewright.backends.kernels import row_reduction
from tilewright.backends.kernels.candidates import candidates
from tilewright.backends.kernels.family import Cost
from tilewright.backends.kernels.readings import Reading
from tilewright.backends.kernels.reduced_matmul import ReducedMatmulTask
from tilewright.backends.kernels.row_reduction import RowReductionSpec
from tilewright.backends.kernels.tasks import MatmulTask
from tilewright.backends.profile import profile_for, shipped
from tilewright.backends.target import lookup

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


@pytest.mark.parametrize(("rows", "fused"), [(1, True), (16, True), (128, False), (256, False)])
def test_few_rows_of_logits_are_reduced_where_they_are_made(rows: int, fused: bool) -> None:
    """As measured of argmax, K 4096 and N 65536: 130 and 254 us at one row, 879 and 318 at 256."""
    target, reading, product = lookup("sm_90a"), Reading("argmax"), MatmulTask(4096, 65536)
    profile = profile_for(target)

    def fastest(task: Any) -> tuple[float, Any]:
        found = [c for c in candidates(task, target, 1e-2) if c.accuracy == 1e-2]
        dims = (rows, 4096, 65536)
        times = [(predict(c.family, c.spec, dims, target, profile), c.spec) for c in found]
        return min(times, key=lambda one: one[0])

    def reduced(part: int) -> float:
        spec = RowReductionSpec(65536, reading, part)
        return predict(row_reduction.FAMILY, spec, (rows, 65536), target, profile)

    together, spec = fastest(ReducedMatmulTask(product, reading))
    apart, _ = fastest(product)
    assert (together + reduced(spec.part) < apart + reduced(0)) is fused

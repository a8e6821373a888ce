"""Attention for GPUs with its C++ run on this CPU: every way, threads and copies in many orders."""

from __future__ import annotations

import platform
from dataclasses import replace
from typing import Any

import pytest
from support import emulated_kernels
from support.emulated_kernels import EmulatedKernel, EmulationError, check

from tilewright.backends.cuda.kernel import CudaKernel
from tilewright.backends.kernels.family import Case
from tilewright.backends.kernels.gpu_attention import FAMILY, cases
from tilewright.backends.kernels.gpu_attention.cases import attention
from tilewright.backends.target import Target, lookup

pytestmark = pytest.mark.skipif(
    emulated_kernels.COMPILER is None or platform.machine() != "x86_64",
    reason="needs g++ on an x86-64 machine",
)

SM_80, SM_90A = lookup("sm_80"), lookup("sm_90a")
MASKED = {"mask": "f32", "mask_axes": "bhqk", "interleaved": True}
HIDING = {"mask": "i8", "mask_axes": "qk", "hide": True}
ORDERS = ("late", "early", "any", "any")
MANY, FEW = 1, 132
"""Multiprocessors with which few rows are many, and with which they are few."""


def emulated(case: Case, target: Target) -> EmulatedKernel:
    assert FAMILY.cuda is not None
    kernel = FAMILY.cuda(case.spec, target, "kernel")
    return EmulatedKernel(kernel, "kernel", len(case.args) + 1, len(case.dims))


def way(case: Case, sms: int, *expected: str) -> None:
    assert set(check(FAMILY, case, SM_90A, sms)) == set(expected), case.label


def test_tiles_of_64_rows_with_masks() -> None:
    case = attention("bf16", (2, 2, 70, 200, 32, 48), "bf16", **MASKED)
    way(case, MANY, "_1x64")


@pytest.mark.parametrize("axes", ["bk", "k"])
def test_masks_that_all_queries_share(axes: str) -> None:
    case = attention("bf16", (2, 2, 70, 200, 32, 48), "bf16", mask="f32", mask_axes=axes)
    way(case, MANY, "_1x64_same")


@pytest.mark.parametrize("keys", [70, 128])
def test_all_keys_in_one_tile(keys: int) -> None:
    case = attention("bf16", (2, 2, 70, keys, 32, 32), "bf16", mask="f32", mask_axes="bk")
    way(case, MANY, "_1x128_same")


def test_masks_of_large_heads_in_blocks_of_16_rows() -> None:
    case = attention("bf16", (1, 2, 5, 70, 256, 256), "bf16", **MASKED)
    way(case, MANY, "")


def test_operands_in_planes_and_a_mask_that_all_queries_share() -> None:
    case = attention("tf32x3", (2, 1, 70, 130, 40, 24), mask="i8", mask_axes="bk", causal=True)
    way(case, MANY, "_split", "_2x64_same")


def test_tiles_of_128_rows_that_take_turns() -> None:
    case = attention("bf16", (1, 1, 150, 400, 96, 128), "bf16", causal=True, offset=250)
    way(case, MANY, "_2x128")


def test_operands_in_planes() -> None:
    case = attention("tf32x3", (1, 2, 70, 130, 40, 24), **HIDING)
    way(case, MANY, "_split", "_2x64")


def test_parts_of_the_keys_in_a_cluster() -> None:
    case = attention("tf32x3", (1, 4, 3, 600, 16, 20), group=2, **MASKED)
    way(case, FEW, "_cluster")


def test_parts_of_the_keys_that_another_entry_puts_together() -> None:
    case = attention("bf16", (1, 2, 2, 700, 16, 20), group=2, causal=True, offset=690)
    way(case, 3, "", "_combine")


def test_tiles_that_see_nothing() -> None:
    details = {"causal": True, "masked_zero": True}
    compiled = None
    for queries, keys, offset in ((40, 65, -50), (33, 64, 31), (64, 1, 0)):
        case = attention("bf16", (1, 1, queries, keys, 32, 32), "bf16", offset=offset, **details)
        compiled = compiled or emulated(case, SM_90A)
        assert check(FAMILY, case, SM_90A, MANY, compiled=compiled) == ("_1x64",)


@pytest.mark.slow
def test_large_heads_are_as_exact_as_f32() -> None:
    case = attention("tf32x3", (1, 1, 20, 260, 256, 256), spread=3, causal=True, offset=240)
    check(FAMILY, case, SM_80)


@pytest.mark.slow
@pytest.mark.parametrize("target", [SM_80, SM_90A], ids=lambda t: t.name)
def test_every_case(target: Target) -> None:
    compiled: dict[Any, EmulatedKernel] = {}
    for case in cases.cases():
        if case.spec not in compiled:
            compiled[case.spec] = emulated(case, target)
        for sms in (MANY, FEW):
            check(FAMILY, case, target, sms, compiled=compiled[case.spec])


class Changed:
    """A family whose kernels have another text in place of one."""

    def __init__(self, old: str, new: str) -> None:
        self.old, self.new = old, new
        self.units = FAMILY.units

    def cuda(self, *args: Any) -> CudaKernel:
        assert FAMILY.cuda is not None
        kernel = FAMILY.cuda(*args)
        assert self.old in kernel.source
        return replace(kernel, source=kernel.source.replace(self.old, self.new))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        ("if (lane == 0) barrier_arrive(k_read", "if (lane == 99) barrier_arrive(k_read", "nobody"),
        ("barrier_wait(k_there", "if (0) barrier_wait(k_there", "more arrivals"),
        ("barrier_wait(v_read", "if (0) barrier_wait(v_read", "nobody"),
        ("if (ORDERED && tiles > 1", "if (0 && tiles > 1", "nobody can go on: .*bar.sync"),
        ("turn_pass(1 - warp / 4)", "if (j < 3) turn_pass(1 - warp / 4)", "nobody can go on"),
        ("settle_values();\n      if (lane == 0)", "if (lane == 0)", "Not equal"),
        ("barrier_wait(bars, 0)", "(void)bars", "Not equal"),
    ],
)
def test_what_is_wrong_shows(old: str, new: str, found: str) -> None:
    case = attention("bf16", (1, 1, 130, 400, 96, 128), "bf16")
    with pytest.raises(AssertionError, match=found):
        check(Changed(old, new), case, SM_90A, MANY, ORDERS)  # type: ignore[arg-type]


@pytest.mark.slow
def test_warps_that_do_not_wait_for_queries_show() -> None:
    case = attention("tf32x3", (1, 2, 9, 80, 16, 20))
    changed = Changed("__syncthreads();\n\n  float highest", "\n  float highest")
    with pytest.raises((AssertionError, EmulationError)):
        check(changed, case, SM_80)  # type: ignore[arg-type]

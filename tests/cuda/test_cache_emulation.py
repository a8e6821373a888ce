"""Key-value caches in codes on GPUs, with the C++ of their kernels run on this CPU."""

from __future__ import annotations

import platform
from typing import Any

import pytest
from support import emulated_kernels
from support.emulated_kernels import EmulatedKernel, check

from tilewright.backends.kernels import cached_attention, encoded_rows
from tilewright.backends.kernels.family import Case, KernelFamily
from tilewright.backends.target import lookup

pytestmark = pytest.mark.skipif(
    emulated_kernels.COMPILER is None or platform.machine() != "x86_64",
    reason="needs g++ on an x86-64 machine",
)

SM_90A = lookup("sm_90a")
ATTENTION, ROWS = cached_attention.FAMILY, encoded_rows.FAMILY


def emulated(family: KernelFamily, case: Case) -> EmulatedKernel:
    assert family.cuda is not None
    kernel = family.cuda(case.spec, SM_90A, "kernel")
    operands = len(case.args) + len(case.results)
    return EmulatedKernel(kernel, "kernel", operands, len(case.dims))


def labelled(family: KernelFamily, start: str) -> Case:
    return next(c for c in family.cases() if c.label.startswith(start))


@pytest.mark.parametrize("start", ["int8-1x2x3x64", "int4-1x2x9x48s"])
def test_rows_are_stored(start: str) -> None:
    assert check(ROWS, labelled(ROWS, start), SM_90A) == ("",)


def test_a_past_that_several_blocks_share() -> None:
    case = labelled(ATTENTION, "int4-1x6/6x1x530x16x80")
    assert check(ATTENTION, case, SM_90A) == ("", "_combine")


@pytest.mark.slow
def test_masks_over_sizes_that_no_load_divides() -> None:
    case = labelled(ATTENTION, "int8-1x2/1x1x300x16x16cf32bk")
    assert check(ATTENTION, case, SM_90A) == ("",)


@pytest.mark.slow
@pytest.mark.parametrize("family", [ATTENTION, ROWS], ids=lambda f: f.name)
def test_every_case(family: KernelFamily) -> None:
    compiled: dict[Any, EmulatedKernel] = {}
    for case in family.cases():
        if case.spec not in compiled:
            compiled[case.spec] = emulated(family, case)
        check(family, case, SM_90A, compiled=compiled[case.spec])

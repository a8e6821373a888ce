"""CUDA C++ of products of few rows, run on this CPU: copies as late as they may happen and at once,
arrays at multiples of 16 bytes and of 256, clusters and the functions of every range of rows."""

from __future__ import annotations

import pytest
from support.emulated_products import COMPILER, check

from tilewright.backends.cuda import fewflow, fewwide
from tilewright.backends.kernels.grouped_mma.cases import _case as grouped
from tilewright.backends.kernels.registry import family
from tilewright.compiler.formats.integers import Integers

pytestmark = pytest.mark.skipif(COMPILER is None, reason="no g++")

FEW = {
    "grouped_mma": (
        ("sm_90a", "5x152x70-5-w4-g64-bf16-bf16+0"),
        ("sm_90a", "20x150x45-0-w8-g64-f32-f32+0-special"),
        ("sm_80", "33x426x70-0-w4-g128-sym-f32-f32+0"),
    ),
    "grouped_imma": (("sm_90a", "9x150x45-0-w4a8b64-g64-f32-f32+0-special"),),
}
"""Cases by their labels."""

FEW_BITS, EIGHT_BITS = Integers(4, 128), Integers(8, 64)


@pytest.mark.parametrize(
    ("name", "row", "label"), [(name, *each) for name, all_ in FEW.items() for each in all_]
)
def test_the_text_computes_what_its_reference_does(name: str, row: str, label: str) -> None:
    found = family(name)
    case = next(c for c in found.cases() if c.label == label)
    both_ways(name, case, row)


@pytest.mark.parametrize(
    ("launch", "ran"),
    [
        ((1, 640, FEW_BITS, 0, "bf16"), ["_1"]),
        ((4, 640, FEW_BITS, 4, "f32"), ["_2"]),
        ((11, 640, FEW_BITS, 8, "bf16"), ["_9"]),
        ((7, 300, EIGHT_BITS, 0, "bf16"), ["_rows", "_2_rounded"]),
        ((35, 300, FEW_BITS, 4, "bf16"), ["_order", "_33"]),
    ],
)
def test_products_that_hopper_copies_and_multiplies_in_groups_of_warps(
    monkeypatch: pytest.MonkeyPatch, launch: tuple[int, int, Integers, int, str], ran: list[str]
) -> None:
    monkeypatch.setattr(fewflow, "LEAST", 1)
    monkeypatch.setattr(fewflow, "MULTIPROCESSORS", 8)
    monkeypatch.setattr(fewwide, "LEAST", 1)
    m, k, form, gap, a = launch
    case = grouped(m, k, 200, form, special=gap > 0, a=a, c=a, gap=gap)
    assert check(family("grouped_mma"), case, "sm_90a", late=True) == ran
    check(family("grouped_mma"), case, "sm_90a", late=False, shift=16)


@pytest.mark.slow
@pytest.mark.parametrize("row", ["sm_80", "sm_90a"])
@pytest.mark.parametrize("name", ["grouped_mma", "grouped_imma", "coded_mma", "mma_matmul"])
def test_many_launches_compute_what_their_reference_does(name: str, row: str) -> None:
    for case in family(name).cases()[::7]:
        both_ways(name, case, row)


def both_ways(name: str, case: object, row: str) -> None:
    """Copies late with arrays at multiples of 256, at once behind them."""
    check(family(name), case, row, late=True)
    check(family(name), case, row, late=False, shift=16)

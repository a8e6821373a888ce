"""CUDA C++ of products of few rows, run on this CPU: copies as late as they may happen and at once,
arrays at multiples of 16 bytes and of 256, clusters and the functions of every range of rows."""

from __future__ import annotations

import pytest
from support.emulated_products import COMPILER, check

from tilewright.backends.kernels.registry import family

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


@pytest.mark.parametrize(
    ("name", "row", "label"), [(name, *each) for name, all_ in FEW.items() for each in all_]
)
def test_the_text_computes_what_its_reference_does(name: str, row: str, label: str) -> None:
    found = family(name)
    case = next(c for c in found.cases() if c.label == label)
    both_ways(name, case, row)


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

"""CUDA C++ of reductions of rows and of panels of a product, run on this CPU."""

from __future__ import annotations

import pytest
from support.emulated_products import COMPILER, check

from tilewright.backends.cuda import prelude
from tilewright.backends.cuda.toolchain import to_cubin, to_ptx, tools
from tilewright.backends.kernels.registry import family
from tilewright.backends.target import TARGETS

pytestmark = pytest.mark.skipif(COMPILER is None, reason="no g++")

FEW = {
    "row_reduction": (
        "12x61-top5-16-special",
        "12x61-log_probability2-0-special",
        "2x9001-log_sum_exp1-0",
    ),
    "reduced_mma": ("9x12x140-top-0-special", "20x21x130-argmax-5"),
}


@pytest.mark.parametrize(("name", "label"), [(n, each) for n, all_ in FEW.items() for each in all_])
def test_the_text_computes_what_its_reference_does(name: str, label: str) -> None:
    found = family(name)
    (case,) = (c for c in found.cases() if c.label == label)
    check(found, case, "sm_90a")


@pytest.mark.slow
@pytest.mark.parametrize("name", FEW)
def test_all_launches_compute_what_their_reference_does(name: str) -> None:
    found = family(name)
    for turn, case in enumerate(found.cases()):
        check(found, case, ("sm_80", "sm_90a")[turn % 2])


@pytest.mark.parametrize("row", ["sm_80", "sm_90a"])
@pytest.mark.parametrize("name", FEW)
def test_nothing_is_spilled(name: str, row: str) -> None:
    if not all(tools()):
        pytest.skip("no tool makes cubins here")
    found = family(name)
    assert found.cuda is not None
    kernel = found.cuda(found.cases()[-1].spec, TARGETS[row], "kernel")
    source = prelude.expand(kernel.source)
    made = to_cubin(to_ptx(source, "kernel", TARGETS[row]), "kernel", TARGETS[row])
    assert made.resources
    assert not [r for r in made.resources if r.spill_stores or r.spill_loads]

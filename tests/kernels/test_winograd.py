"""Winograd convolutions where numbers are not finite."""

from __future__ import annotations

import numpy as np
import pytest
from llvmlite import ir
from support.compiled_graph import check_graph
from support.draft_graph import Draft
from support.launches import check, rows_of

from tilewright.backends.kernels.f32_winograd import FAMILY
from tilewright.backends.kernels.f32_winograd.cases import pruned
from tilewright.backends.llvm.jit import compile_module
from tilewright.backends.target import TARGETS, Target, runs_here
from tilewright.compiler.ir.ops.contraction import Conv

ROWS = [pytest.param(t, id=t.name) for t in rows_of(FAMILY) if runs_here(t)]


@pytest.mark.parametrize("target", ROWS)
def test_infinity_times_a_weight_of_zero_is_nan(target: Target) -> None:
    case = pruned()
    assert np.isnan(case.expected[0]).any()
    assert np.isinf(case.expected[0]).any()
    module = ir.Module()
    FAMILY.emit(module, case.spec, target, "kernel")
    check(FAMILY, case, compile_module(module, target), "kernel", at_end=True)


@pytest.mark.parametrize("weight", [np.inf, np.nan, -3e38, 1.0])
def test_filters_whose_transform_is_not_finite_are_summed_directly(weight: float) -> None:
    filters = np.random.default_rng(0).standard_normal((3, 3, 32, 32)).astype(np.float32)
    filters[1, 1, 5, 7] = weight
    d = Draft()
    x = d.input("x", "f32", 1, 40, 40, 32)
    ones = (1, 1)
    y = d(Conv, x=x, w=d.constant(filters), groups=1, strides=ones, dilations=ones,
          pads_low=ones, pads_high=ones)  # fmt: skip
    target = TARGETS["x86-64-v3"]
    if not runs_here(target):
        pytest.skip(f"{target.name} code does not run on this machine")
    lowered = check_graph(d.graph(y), special=False, target=target)
    (question,) = lowered.state.choices.questions
    names = {c.family.name for c in question.candidates}
    assert names == ({"f32_conv", "f32_winograd"} if weight == 1.0 else {"f32_conv"})

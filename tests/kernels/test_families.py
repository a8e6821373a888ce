"""Every kernel family, found by walking, on every ISA this machine runs, against guard pages."""

from __future__ import annotations

from dataclasses import astuple, replace

import numpy as np
import pytest
from llvmlite import ir
from support.launches import check, rows_of

from tilewright.backends.kernels.family import UNITS, KernelFamily, evaluate
from tilewright.backends.kernels.registry import families
from tilewright.backends.llvm.jit import compile_module, machine_code
from tilewright.backends.llvm.lowering.state import formula
from tilewright.backends.target import TARGETS, Target, runs_here
from tilewright.compiler.formats import Encoded

FAMILIES = families()


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_reference_is_the_float64_meaning(family: KernelFamily) -> None:
    for case in family.cases():
        got = family.reference(case.spec, case.args, case.dims)
        for value, expected in zip(got, case.expected, strict=True):
            np.testing.assert_allclose(value, expected, case.rtol, case.atol, err_msg=case.label)


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_packing_has_an_exact_inverse(family: KernelFamily) -> None:
    for case in family.cases():
        if family.pack is None or family.unpack is None:
            assert case.weights is None, case.label
            continue
        assert case.weights is not None, case.label
        logical, position = case.weights
        packed = family.pack(logical, case.spec)
        np.testing.assert_array_equal(packed, case.args[position])
        assert family.layout is not None
        assert family.layout(case.spec).bytes == packed.nbytes
        back = family.unpack(packed, case.spec)
        if isinstance(logical, Encoded):
            assert {*back.arrays} == {*logical.arrays}
            for name, array in logical.arrays.items():
                np.testing.assert_array_equal(back[name], array, err_msg=name)
        else:
            np.testing.assert_array_equal(back, logical)


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_cost_is_positive_and_formulas_evaluate(family: KernelFamily) -> None:
    for case in family.cases():
        for target in TARGETS.values():
            if family.emit is not None and family.serves(target):
                cost = family.cost(case.spec, case.dims, target)
                assert cost.unit in UNITS, case.label
                assert min(astuple(replace(cost, unit=0))) >= 0, case.label
        for text in (family.units(case.spec), family.scratch_bytes(case.spec)):
            assert evaluate(text, case.dims) >= 0, case.label
            assert formula(text, case.dims) == evaluate(text, case.dims), case.label
        hash(case.spec)


PAIRS = [
    pytest.param(family, target, id=f"{name}-{target.name}")
    for name, family in FAMILIES.items()
    for target in rows_of(family)
]


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_a_target_without_the_instructions_is_refused(family: KernelFamily) -> None:
    for target in TARGETS.values():
        if family.emit is not None and not target.gpu and not family.serves(target):
            with pytest.raises(ValueError, match=target.name):
                family.emit(ir.Module(), family.cases()[0].spec, target, "kernel")


@pytest.mark.parametrize(("family", "target"), PAIRS)
def test_emitted_kernel_is_the_reference(family: KernelFamily, target: Target) -> None:
    cases = family.cases()
    specs = {case.spec: f"kernel{i}" for i, case in enumerate(cases)}
    module = ir.Module(family.name)
    for spec, name in specs.items():
        family.emit(module, spec, target, name)
    if not runs_here(target):
        assert machine_code(module, target)
        pytest.skip(f"{target.name} code does not run on this machine")
    library = compile_module(module, target)
    for case in cases:
        for at_end in (True, False):
            check(family, case, library, specs[case.spec], at_end)

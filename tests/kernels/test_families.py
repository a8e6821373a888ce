"""Every kernel family, found by walking, on every ISA this machine runs, against guard pages."""

from __future__ import annotations

import random

import numpy as np
import pytest
from llvmlite import ir
from support.guarded import Guarded

from tilewright.backends.kernels.family import Case, KernelFamily, evaluate
from tilewright.backends.kernels.registry import families
from tilewright.backends.llvm.jit import Library, call, compile_module, machine_code
from tilewright.backends.target import TARGETS, Target, runs_here

FAMILIES = families()
ROWS = [t for t in TARGETS.values() if t.name != "sapphirerapids"]
SIGNALLING = np.float32(np.nan)


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
        np.testing.assert_array_equal(family.unpack(packed, case.spec), logical)


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_cost_is_positive_and_formulas_evaluate(family: KernelFamily) -> None:
    for case in family.cases():
        cost = family.cost(case.spec, case.dims)
        assert cost.flops >= 0, case.label
        assert cost.bytes >= 0, case.label
        assert evaluate(family.units(case.spec), case.dims) >= 0, case.label
        assert evaluate(family.scratch_bytes(case.spec), case.dims) >= 0, case.label
        hash(case.spec)


@pytest.mark.parametrize("target", ROWS, ids=lambda t: t.name)
@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
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
            _check(family, case, library, specs[case.spec], at_end)


def _check(family: KernelFamily, case: Case, library: Library, name: str, at_end: bool) -> None:
    guard = Guarded()
    args = [guard.place(a, at_end=at_end) for a in case.args]
    results = [guard.place(np.full_like(r, 77), at_end=at_end) for r in case.results]
    size = evaluate(family.scratch_bytes(case.spec), case.dims)
    # Scratch is 64-byte aligned by contract, its end is the guarded one.
    scratch = guard.place(np.full(-(-size // 64) * 16, SIGNALLING, np.float32))
    units = evaluate(family.units(case.spec), case.dims)
    cut = random.Random(case.label).randint(0, units)
    # The last range first: units must not depend on each other.
    ranges = [(cut, units), (0, cut)]
    status = call(library.kernel(name), [*args, *results], case.dims, ranges, scratch)
    assert status == 0
    for got, expected in zip(results, case.expected, strict=True):
        np.testing.assert_allclose(
            got, expected, case.rtol, case.atol, err_msg=f"{case.label} {name}"
        )

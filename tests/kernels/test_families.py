"""Every kernel family, found by walking, on every ISA this machine runs, against guard pages."""

from __future__ import annotations

import random
from dataclasses import astuple, replace

import numpy as np
import pytest
from llvmlite import ir
from support.guarded import Guarded

from tilewright.backends.kernels.family import UNITS, Case, KernelFamily, evaluate
from tilewright.backends.kernels.registry import families
from tilewright.backends.llvm.jit import Library, call, compile_module, machine_code
from tilewright.backends.target import TARGETS, Target, runs_here

FAMILIES = families()
# A machine with bf16 dot products and no tiles, as AMD's are since Zen 4.
BF16_ROW = Target(
    name="x86-64-v4-bf16",
    inherits="x86-64-v4",
    cpu="x86-64-v4",
    features=("avx512bf16",),
    cpuinfo=("avx512_bf16",),
    vector_bits=512,
    vector_regs=32,
    l1_kib=32,
    l2_kib=1024,
)
# Machines with dot products of 8-bit integers and no tiles: Ice Lake, Alder Lake.
VNNI_ROW = Target(
    name="x86-64-v4-vnni",
    inherits="x86-64-v4",
    cpu="x86-64-v4",
    features=("avx512vnni",),
    cpuinfo=("avx512_vnni",),
    vector_bits=512,
    vector_regs=32,
    l1_kib=32,
    l2_kib=1024,
)
AVX_VNNI_ROW = Target(
    name="x86-64-v3-vnni",
    inherits="x86-64-v3",
    cpu="x86-64-v3",
    features=("avxvnni",),
    cpuinfo=("avx_vnni",),
    vector_bits=256,
    vector_regs=16,
    l1_kib=32,
    l2_kib=1024,
)
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
        assert family.layout is not None
        assert family.layout(case.spec).bytes == packed.nbytes
        np.testing.assert_array_equal(family.unpack(packed, case.spec), logical)


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_cost_is_positive_and_formulas_evaluate(family: KernelFamily) -> None:
    for case in family.cases():
        for target in TARGETS.values():
            if family.supports is None or family.supports(target):
                cost = family.cost(case.spec, case.dims, target)
                assert cost.unit in UNITS, case.label
                assert min(astuple(replace(cost, unit=0))) >= 0, case.label
        assert evaluate(family.units(case.spec), case.dims) >= 0, case.label
        assert evaluate(family.scratch_bytes(case.spec), case.dims) >= 0, case.label
        hash(case.spec)


def _rows(family: KernelFamily) -> list[Target]:
    """Targets whose code differs: f32 families see nothing in rows above x86-64-v4."""
    if family.supports is None:
        return [t for t in TARGETS.values() if t.name != "sapphirerapids"]
    rows = [*TARGETS.values(), BF16_ROW]
    if family.name.startswith("int8"):
        rows = [*TARGETS.values(), VNNI_ROW, AVX_VNNI_ROW]
    return [t for t in rows if family.supports(t)]


PAIRS = [
    pytest.param(family, target, id=f"{name}-{target.name}")
    for name, family in FAMILIES.items()
    for target in _rows(family)
]


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_a_target_without_the_instructions_is_refused(family: KernelFamily) -> None:
    for target in TARGETS.values():
        if family.supports is not None and not family.supports(target):
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

"""Families with rows, columns and sums at sizes from 1 to 70 in each, against guard pages.

Columns and sums are mostly constants of a kernel, so one takes many row counts in turn.
"""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
from llvmlite import ir
from support.launches import check, rows_of

from tilewright.backends.kernels.family import Case, KernelFamily, evaluate
from tilewright.backends.kernels.registry import families
from tilewright.backends.llvm.jit import Kernel, call, compile_module
from tilewright.backends.target import TARGETS, Target, runs_here

MOST = 70
KERNELS = 16
"""Of a sample, for a family and target, about: to compile them takes longer than to run them."""
SHAPED = {name: family for name, family in families().items() if family.shaped}
PAIRS = [
    pytest.param(family, target, id=f"{name}-{target.name}")
    for name, family in SHAPED.items()
    for target in rows_of(family)
    if runs_here(target)
]


def _columns_and_sums(seed: str, count: int) -> list[tuple[int, int]]:
    """(n, k): of ``count`` = MOST every size once on either side."""
    draw = random.Random(seed)
    sizes = range(1, MOST + 1)
    return list(zip(draw.sample(sizes, count), draw.sample(sizes, count), strict=True))


def _run(family: KernelFamily, target: Target, shapes: list[tuple[int, int, int]]) -> None:
    assert family.shaped is not None
    cases = [case for m, n, k in shapes for case in family.shaped(m, n, k)]
    specs: dict[object, str] = {}
    for case in cases:
        specs.setdefault(case.spec, f"kernel{len(specs)}")
    module = ir.Module(family.name)
    for spec, name in specs.items():
        family.emit(module, spec, target, name)
    library = compile_module(module, target)
    for case in cases:
        for at_end in (True, False):
            check(family, case, library, specs[case.spec], at_end)


@pytest.mark.parametrize(("family", "target"), PAIRS)
def test_a_sample_of_odd_shapes(family: KernelFamily, target: Target) -> None:
    assert family.shaped is not None
    draw = random.Random(family.name)
    kinds = len({case.spec for case in family.shaped(2, 3, 5)})
    count = min(5, max(1, KERNELS // kinds - 2))
    pairs = [*_columns_and_sums(family.name, count), (1, 1), (MOST, MOST)]
    _run(family, target, [(m, n, k) for n, k in pairs for m in draw.sample(range(1, MOST + 1), 8)])


PARTS = 7


def _sweep(name: str, part: int) -> list[tuple[int, int, int]]:
    """The shapes of one part: ten (n, k), each with every fifth row count, by turns from 1 to 5.

    So each part has every row count from 1 to 70 twice, as 5 and 7 have no factor in common, and
    all parts together have each n and each k. With each (n, k) there is every remainder by 14, the
    rows of a register block, and all but two by 16, those of a tile."""
    pairs = list(enumerate(_columns_and_sums(f"{name} all", MOST)))[part::PARTS]
    return [(m, n, k) for number, (n, k) in pairs for m in range(1 + number % 5, MOST + 1, 5)]


@pytest.mark.parametrize("name", SHAPED)
def test_the_sweep_has_every_size(name: str) -> None:
    every = list(range(1, MOST + 1))
    parts = [_sweep(name, part) for part in range(PARTS)]
    for shapes in parts:
        assert sorted(m for m, _, _ in shapes) == sorted(2 * every)
    pairs = {(n, k) for shapes in parts for _, n, k in shapes}
    assert sorted(n for n, _ in pairs) == every
    assert sorted(k for _, k in pairs) == every


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize(("family", "target"), PAIRS)
def test_every_size_of_each_dimension(family: KernelFamily, target: Target, part: int) -> None:
    _run(family, target, _sweep(family.name, part))


@pytest.mark.parametrize("name", ["f32_matmul"])
def test_variants_compute_the_same_bits(name: str) -> None:
    """Blocks differ, the order of sums does not."""
    family = SHAPED[name]
    assert family.shaped is not None
    assert family.variants is not None
    target = TARGETS["x86-64-v3"]
    if not runs_here(target):
        pytest.skip(f"{target.name} code does not run on this machine")
    for m, n, k in ((5, 130, 300), (150, 200, 900)):
        for case in family.shaped(m, n, k):
            specs = family.variants(case.spec, target)
            assert len(specs) > 1
            module = ir.Module(family.name)
            for i, spec in enumerate(specs):
                family.emit(module, spec, target, f"kernel{i}")
            library = compile_module(module, target)
            first = None
            for i, spec in enumerate(specs):
                check(family, replace(case, spec=spec), library, f"kernel{i}", at_end=True)
                got = _bits(family, replace(case, spec=spec), library.kernel(f"kernel{i}"))
                first = got if first is None else first
                np.testing.assert_array_equal(got, first, err_msg=f"{case.label} {spec}")


def _bits(family: KernelFamily, case: Case, kernel: Kernel) -> np.ndarray:
    result = np.full_like(case.results[0], 77)
    scratch = np.zeros(evaluate(family.scratch_bytes(case.spec), case.dims) + 64, np.uint8)
    scratch = scratch[-scratch.ctypes.data % 64 :]
    units = evaluate(family.units(case.spec), case.dims)
    assert call(kernel, [*case.args, result], case.dims, [(0, units)], scratch) == 0
    return result.view(np.uint32)

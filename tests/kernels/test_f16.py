"""Chains of f16 products, which only some targets have: their error class, and their edges."""

from dataclasses import replace

import numpy as np
import pytest
from llvmlite import ir
from support.guarded import Guarded

from tilewright.backends.kernels import f16_conv
from tilewright.backends.kernels.f16_conv.cases import CONVS, half_case
from tilewright.backends.kernels.f16_matmul import FAMILY
from tilewright.backends.kernels.f16_matmul.cases import BIAS_RELU_RESIDUAL, shaped
from tilewright.backends.kernels.f16_matmul.spec import CHAIN
from tilewright.backends.kernels.f32_conv.cases import RESIDUAL
from tilewright.backends.kernels.family import Case, KernelFamily, evaluate
from tilewright.backends.llvm.epilogue import IDENTITY
from tilewright.backends.llvm.jit import call, compile_module
from tilewright.backends.target import TARGETS, runs_here

TARGET = TARGETS["sapphirerapids"]


def test_a_target_without_f16_products_refuses_chains() -> None:
    for family, case in (
        (FAMILY, shaped(2, 8, 8, chain=CHAIN)),
        (f16_conv.FAMILY, half_case(*CONVS[0], CHAIN)),
    ):
        with pytest.raises(ValueError, match="x86-64-v4"):
            family.emit(ir.Module(), case.spec, TARGETS["x86-64-v4"], "kernel")


@pytest.mark.skipif(not runs_here(TARGET), reason="needs AVX512-FP16")
def test_sums_of_chains_keep_to_their_error_class() -> None:
    shapes = [(m, k, n) for m in (1, 5, 12, 13) for k, n in ((1, 33), (16, 64), (47, 40))]
    cases = [shaped(*s, epilogue, CHAIN) for s in shapes for epilogue in (IDENTITY,)]
    cases += [shaped(7, 40, 70, BIAS_RELU_RESIDUAL, CHAIN), shaped(20, 1536, 64, chain=CHAIN)]
    _keep_to_their_class(FAMILY, cases)


@pytest.mark.skipif(not runs_here(TARGET), reason="needs AVX512-FP16")
def test_sums_of_chains_of_a_convolution_keep_to_their_error_class() -> None:
    plain = [half_case(*CONVS[i], CHAIN) for i in (1, 3, 4, 6, -1)]
    fused = [half_case(replace(s, epilogue=RESIDUAL), sizes, CHAIN) for s, sizes in CONVS[1:8:6]]
    _keep_to_their_class(f16_conv.FAMILY, [*plain, *fused])


def _keep_to_their_class(family: KernelFamily, cases: list[Case]) -> None:
    module = ir.Module("chains")
    names = {case.spec: f"kernel{i}" for i, case in enumerate(cases)}
    for spec, name in names.items():
        family.emit(module, spec, TARGET, name)
    library = compile_module(module, TARGET)
    for case in cases:
        guard = Guarded()
        arrays = [guard.place(a) for a in (*case.args, *case.results)]
        scratch = guard.place(np.zeros(evaluate(family.scratch_bytes(case.spec), case.dims), "u1"))
        ranges = [(0, evaluate(family.units(case.spec), case.dims))]
        assert call(library.kernel(names[case.spec]), arrays, case.dims, ranges, scratch) == 0
        wanted = case.expected[0]
        error = np.linalg.norm(arrays[-1] - wanted) / np.linalg.norm(wanted)
        assert error < family.accuracy(case.spec) == 1e-3, case.label

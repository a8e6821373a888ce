"""Ternary weights: trits in AVX-512 registers, integer sums bit for bit, and what is exactly
ternary."""

import numpy as np
import pytest
from llvmlite import ir
from support.launches import BF16_ROW, VNNI_ROW, check

from tilewright.backends.kernels.candidates import candidates
from tilewright.backends.kernels.family import evaluate
from tilewright.backends.kernels.tasks import MatmulTask
from tilewright.backends.kernels.ternary_int8_matmul import FAMILY, TernaryInt8MatmulSpec
from tilewright.backends.kernels.ternary_int8_matmul.cases import looked_up
from tilewright.backends.llvm.jit import call, compile_module
from tilewright.backends.target import TARGETS, runs_here
from tilewright.compiler.formats import Encoded, named

WIDE = [TARGETS["x86-64-v4"], TARGETS["sapphirerapids"]]
ALL = [TARGETS["x86-64-v3"], *WIDE, VNNI_ROW, BF16_ROW]


@pytest.mark.parametrize("target", WIDE, ids=lambda t: t.name)
def test_trits(target) -> None:
    if not runs_here(target):
        pytest.skip(f"{target.name} code does not run on this machine")
    cases = looked_up()
    names = {case.spec: f"kernel{i}" for i, case in enumerate(cases)}
    module = ir.Module("trits")
    for spec, name in names.items():
        FAMILY.emit(module, spec, target, name)
    library = compile_module(module, target)
    for case in cases:
        (got,) = FAMILY.reference(case.spec, case.args, case.dims)
        np.testing.assert_allclose(got, case.expected[0], case.rtol, case.atol, err_msg=case.label)
        assert case.weights is not None
        encoded = case.weights[0]
        back = FAMILY.unpack(FAMILY.pack(encoded, case.spec), case.spec)
        for array in ("codes", "scales"):
            np.testing.assert_array_equal(back[array], encoded[array])
        assert FAMILY.layout(case.spec).bytes == case.args[1].nbytes
        for at_end in (True, False):
            check(FAMILY, case, library, names[case.spec], at_end)


@pytest.mark.parametrize("target", ALL, ids=lambda t: t.name)
@pytest.mark.parametrize("trits", [False, True])
def test_sums_are_those_of_integers_bit_for_bit(target, trits: bool) -> None:
    if not runs_here(target) or (trits and target.lanes_f32 < 16):
        pytest.skip(f"{target.name} code does not run on this machine, or has no such registers")
    k, n = 4096, 33
    spec = TernaryInt8MatmulSpec(k, n, trits)
    module = ir.Module("sums")
    FAMILY.emit(module, spec, target, "kernel")
    kernel = compile_module(module, target).kernel("kernel")
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 3, (k, n)).astype(np.uint8)
    codes[:, 0], codes[:, 1] = 0, 2
    packed = FAMILY.pack(Encoded((k, n), {"codes": codes, "scales": np.ones(n, "f4")}), spec)
    for m in (1, 2, 4, 7):
        whole = rng.integers(-127, 128, (m, k))
        whole[:, 0] = 127
        whole[0] = 127
        got = np.zeros((m, n), np.float32)
        dims = (m, k, n)
        scratch = np.zeros(evaluate(FAMILY.scratch_bytes(spec), dims) + 64, np.uint8)
        scratch = scratch[-scratch.ctypes.data % 64 :]
        units = evaluate(FAMILY.units(spec), dims)
        arrays = [whole.astype(np.float32), packed, got]
        assert call(kernel, arrays, dims, [(0, units)], scratch) == 0
        np.testing.assert_array_equal(got, whole @ (codes.astype(np.int64) - 1))


def test_trits_need_wide_registers() -> None:
    target = TARGETS["x86-64-v3"]
    offered = candidates(MatmulTask(64, 64), target, 0.0, frozenset(["t158"]))
    assert {c.spec.trits for c in offered if c.family is FAMILY} == {False}
    with pytest.raises(ValueError, match="target 'x86-64-v3' has no permutations of 32 words"):
        FAMILY.emit(ir.Module(), TernaryInt8MatmulSpec(64, 64, trits=True), target, "kernel")


def test_a_trit_of_nine_takes_sixteen_bits() -> None:
    spec = TernaryInt8MatmulSpec(900, 64, trits=True)
    assert FAMILY.layout(spec).bytes == named("t158").bytes(900, 64)

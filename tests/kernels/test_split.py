"""Split products: as close to the exact product as promised, however units are divided."""

from __future__ import annotations

import numpy as np
import pytest
from llvmlite import ir

from tilewright.backends.kernels.family import evaluate
from tilewright.backends.kernels.split_matmul import FAMILY, SplitMatmulSpec
from tilewright.backends.kernels.split_matmul.packing import pack
from tilewright.backends.llvm.jit import call, compile_module
from tilewright.backends.target import TARGETS, runs_here

TARGET = TARGETS["sapphirerapids"]
here = pytest.mark.skipif(not runs_here(TARGET), reason="this CPU has no AMX tiles")


@here
@pytest.mark.parametrize(("products", "most"), [(3, 1e-5), (6, 3e-7)])
def test_error_and_bits_in_any_order_of_units(products: int, most: float) -> None:
    m, k, n = 70, 420, 96
    rng = np.random.default_rng(products)
    a = rng.standard_normal((m, k)).astype(np.float32)
    b = rng.standard_normal((k, n)).astype(np.float32)
    spec = SplitMatmulSpec(k, n, products, rows=32, depth=8)
    module = ir.Module()
    FAMILY.emit(module, spec, TARGET, "kernel")
    kernel = compile_module(module, TARGET).kernel("kernel")
    dims = (m, k, n)
    units = evaluate(FAMILY.units(spec), dims)
    size = evaluate(FAMILY.scratch_bytes(spec), dims)
    raw = np.zeros(size + 64, np.uint8)
    scratch = raw[-raw.ctypes.data % 64 :][:size]
    packed = pack(b, spec)
    results = []
    for ranges in ([(0, units)], [(i, i + 1) for i in reversed(range(units))]):
        c = np.full((m, n), np.nan, np.float32)
        assert call(kernel, [a, packed, c], dims, ranges, scratch) == 0
        results.append(c)
    assert units > 3
    np.testing.assert_array_equal(results[0], results[1])
    exact = a.astype(np.float64) @ b
    assert np.linalg.norm(results[0] - exact) < most * np.linalg.norm(exact)


@pytest.mark.parametrize("products", [1, 2, 7])
def test_other_numbers_of_products_are_refused(products: int) -> None:
    with pytest.raises(ValueError, match="one of 3, 6"):
        SplitMatmulSpec(8, 8, products)


def test_packed_bytes_are_those_of_the_f32_family() -> None:
    from tilewright.backends.kernels import f32_matmul

    weights = np.random.default_rng(0).standard_normal((70, 45)).astype(np.float32)
    spec, plain = SplitMatmulSpec(70, 45), f32_matmul.MatmulSpec(70, 45)
    assert f32_matmul.FAMILY.pack is not None
    assert pack(weights, spec).tobytes() == f32_matmul.FAMILY.pack(weights, plain).tobytes()
    assert f32_matmul.FAMILY.layout is not None
    assert FAMILY.layout is not None
    assert FAMILY.layout(spec) == f32_matmul.FAMILY.layout(plain)

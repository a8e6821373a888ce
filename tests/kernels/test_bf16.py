"""bf16: rounding, splitting, packing, and how far the products are from f32."""

from __future__ import annotations

import numpy as np
import pytest
from llvmlite import ir

from tilewright.backends.kernels.bf16_matmul import FAMILY, Bf16MatmulSpec
from tilewright.backends.kernels.bf16_matmul.packing import (
    pack,
    round_to_bf16,
    split,
    unpack,
    widen,
)
from tilewright.backends.kernels.family import evaluate
from tilewright.backends.llvm import bf16
from tilewright.backends.llvm.builder import I8, KERNEL_TYPE, PTR, Code
from tilewright.backends.llvm.frame import ok
from tilewright.backends.llvm.jit import call, compile_module
from tilewright.backends.target import TARGETS, runs_here

HERE = [t for t in TARGETS.values() if bf16.has_dots(t) and runs_here(t)]


def bits(*words: int) -> np.ndarray:
    return np.array(words, np.uint32).view(np.float32)


@pytest.mark.parametrize(
    ("value", "rounded"),
    [
        (0x3F800000, 0x3F80),
        (0x3F808000, 0x3F80),  # a tie goes to the even neighbour, below
        (0x3F818000, 0x3F82),  # and above
        (0x3F808001, 0x3F81),
        (0x80000000, 0x8000),
        (0x00400000, 0x0000),  # subnormal
        (0x80000001, 0x8000),
        (0x00800000, 0x0080),
        (0x7F7F8000, 0x7F80),  # past the greatest: infinity
        (0x7F7F7FFF, 0x7F7F),
        (0xFF800000, 0xFF80),
        (0x7F800001, 0x7FC0),  # NaN whose low half alone tells it from infinity
        (0xFFFFFFFF, 0xFFFF),
    ],
)
def test_rounding(value: int, rounded: int) -> None:
    assert round_to_bf16(bits(value))[0] == rounded


@pytest.mark.parametrize("planes", [1, 2, 3])
def test_emitted_split_is_numpys(planes: int) -> None:
    if not HERE:
        pytest.skip("this CPU has no bf16 instructions")
    rng = np.random.default_rng(planes)
    words = rng.integers(0, 1 << 32, 1 << 14, dtype=np.uint32)
    special = [0x7F800000, 0xFF800000, 0x7F800001, 0x7F7FFFFF, 0x7F7F8000, 1, 0x80000000, 0]
    words[: len(special)] = special
    values = words.view(np.float32)
    module = ir.Module()
    fn = ir.Function(module, KERNEL_TYPE, "split")
    code = Code(ir.IRBuilder(fn.append_basic_block()), HERE[-1])
    source, out = (code.load(code.at(fn.args[0], i, PTR), PTR) for i in range(2))
    with code.loop(fn.args[2], fn.args[3]) as block:
        value = code.vload(code.at(source, code.mul(block.index, 16)), 16)
        for plane, part in enumerate(bf16.split(code, value, planes)):
            at = code.add(code.mul(block.index, 32), 2 * plane * len(values))
            code.vstore(part, code.at(out, at, I8))
    ok(code)
    got = np.zeros((planes, len(values)), np.uint16)
    kernel = compile_module(module, HERE[-1]).kernel("split")
    assert call(kernel, [values, got], (), [(0, len(values) // 16)], got) == 0
    np.testing.assert_array_equal(got, np.stack(split(values, planes)))


def test_three_planes_hold_an_f32() -> None:
    rng = np.random.default_rng(0)
    values = (rng.standard_normal(10_000) * 10.0 ** rng.integers(-20, 20, 10_000)).astype("f4")
    np.testing.assert_array_equal(sum(widen(part) for part in split(values, 3)), values)
    two = sum(widen(part) for part in split(values, 2))
    assert np.max(np.abs(two / values - 1)) <= 2.0**-17


def test_infinity_meets_one_plane_only() -> None:
    for planes in (2, 3):
        parts = split(bits(0x7F800000, 0x7FC00000), planes)
        assert all(not part.any() for part in parts[:-1])
        np.testing.assert_array_equal(widen(parts[-1]), [np.inf, np.nan])
    for order in bf16.ORDER.values():
        last = max(i for i, _ in order)
        assert [pair for pair in order if last in pair] in ([(0, 0)], [(last, 0), (0, last)])


def test_packed_layout() -> None:
    # K = 33, N = 34: one value of the second step, two columns of the second panel.
    spec = Bf16MatmulSpec(33, 34)
    weights = np.arange(33 * 34, dtype=np.float32).reshape(33, 34)
    weights = unpack(pack(weights, spec), spec).astype(np.float32)
    packed = widen(pack(weights, spec))
    assert packed.shape == (2, 2, 1, 16, 32, 2)
    assert packed[0, 0, 0, 3, 5, 1] == weights[7, 5]
    assert packed[1, 0, 0, 15, 1, 0] == weights[30, 33]
    assert packed[0, 1, 0, 0, 31, 0] == weights[32, 31]
    assert not packed[:, 1, 0, 0, :, 1].any()
    assert not packed[:, 1, 0, 1:].any()
    assert not packed[1, :, :, :, 2:].any()


def test_other_numbers_of_products_are_refused() -> None:
    with pytest.raises(ValueError, match="one of 1, 3, 6, not 2"):
        Bf16MatmulSpec(8, 8, 2)


@pytest.mark.parametrize("products", [1, 3, 6])
def test_units_in_any_order_give_the_same_bits_close_to_f32(products: int) -> None:
    if not HERE:
        pytest.skip("this CPU has no bf16 instructions")
    m, k, n = 300, 320, 96
    rng = np.random.default_rng(products)
    a = rng.standard_normal((m, k)).astype(np.float32)
    b = rng.standard_normal((k, n)).astype(np.float32)
    spec = Bf16MatmulSpec(k, n, products)
    module = ir.Module()
    FAMILY.emit(module, spec, HERE[-1], "kernel")
    kernel = compile_module(module, HERE[-1]).kernel("kernel")
    dims = (m, k, n)
    units = evaluate(FAMILY.units(spec), dims)
    size = evaluate(FAMILY.scratch_bytes(spec), dims) + 64
    assert units > 3
    results = []
    for ranges in ([(0, units)], [(i, i + 1) for i in reversed(range(units))]):
        scratch = np.zeros(size, np.uint8)
        scratch = scratch[-scratch.ctypes.data % 64 :]
        out = np.zeros((m, n), np.float32)
        assert call(kernel, [a, pack(b, spec), out], dims, ranges, scratch) == 0
        results.append(out)
    np.testing.assert_array_equal(*results)
    exact = a.astype(np.float64) @ b.astype(np.float64)
    error = np.linalg.norm(results[0] - exact) / np.linalg.norm(exact)
    # Measured 2.3e-3, 4.4e-6 and 1.6e-7 (numpy in f32: 2.5e-7).
    assert error < {1: 3e-3, 3: 6e-6, 6: 4e-7}[products]

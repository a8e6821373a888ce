"""Weights in the order of tensor-core operands, element by element, and code that reads them."""

from __future__ import annotations

import numpy as np
import pytest

from tilewright.backends.cuda import fewflow, fewrows, operands, prelude
from tilewright.backends.cuda.kernel import CudaKernel
from tilewright.backends.cuda.operands import Weights
from tilewright.backends.cuda.toolchain import to_cubin, to_ptx, tools
from tilewright.backends.kernels.grouped_imma import GroupedImmaSpec
from tilewright.backends.kernels.grouped_mma import GroupedMmaSpec
from tilewright.backends.kernels.registry import family
from tilewright.backends.llvm.epilogue import IDENTITY
from tilewright.backends.target import TARGETS
from tilewright.compiler.formats.activations import Int8
from tilewright.compiler.formats.integers import Integers
from tilewright.runtime import expressions

K, N = 150, 70


def lanes(weights: Weights):
    """Every element [k, n] with its panel, chunk, lane, place r of its column, and j of its k."""
    for k in range(weights.k):
        for n in range(weights.n):
            chunk, inside = divmod(k, 32)
            panel, column = divmod(n, 32)
            lane = column % 8 * 4 + inside // 8
            yield k, n, panel, chunk, lane, column // 8, inside % 8


@pytest.mark.parametrize("group", [32, 64, 128, 0])
@pytest.mark.parametrize("bits", [4, 8])
def test_a_lane_loads_the_codes_that_its_operands_are_made_of(bits: int, group: int) -> None:
    weights = Weights(K, N, bits, group, 2, zeros=True)
    rng = np.random.default_rng(bits)
    codes = rng.integers(0, 2**bits, (K, N)).astype(np.uint8)
    scales = rng.standard_normal((weights.groups, N)).astype(np.float16)
    zeros = rng.integers(0, 2**bits, scales.shape).astype(np.uint8)
    packed = operands.pack(weights, codes, scales, zeros)
    assert packed.nbytes == weights.bytes
    slots = packed.reshape(weights.panels, weights.steps, weights.slot)
    words = np.ascontiguousarray(slots[:, :, : weights.codes]).view(np.uint32)
    words = words.reshape(weights.panels, weights.steps * weights.step // 32, bits // 4, 32, 4)
    sides = slots[:, :, weights.codes :]
    for k, n, panel, chunk, lane, r, j in lanes(weights):
        shift = 4 * (j // 2) + 16 * (j % 2)
        halves = words[panel, chunk, :, lane, r] >> shift & 15
        assert sum(int(h) << 4 * i for i, h in enumerate(halves)) == codes[k, n]
        at, of = lane // 4 * 4 + r, sides[panel, k // weights.step]
        assert of[:64].view(np.float16)[at] == scales[k // weights.size, n]
        assert of[64:][at] == zeros[k // weights.size, n]
    back = operands.unpack(weights, packed)
    for found, given in zip(back, (codes, scales, zeros), strict=True):
        np.testing.assert_array_equal(found, given)


def test_numbers_of_16_bits_lie_as_operands() -> None:
    weights = Weights(K, N, 16)
    bits = np.random.default_rng(1).integers(0, 2**16, (K, N)).astype(np.uint16)
    packed = operands.pack(weights, bits).view(np.uint16)
    packed = packed.reshape(weights.panels, weights.steps, 4, 32, 8)
    for k, n, panel, chunk, lane, r, j in lanes(weights):
        assert packed[panel, chunk, r, lane, j] == bits[k, n]


def names_of(kernel: CudaKernel, rows: int, stride: int, address: int) -> list[str]:
    """Which functions of a kernel are launched; ``address``: of A, modulo 256."""
    values = {"p0": rows, "p1": stride, "p2": 0, "sms": 132, "a0": address}
    return [
        e.suffix for e in kernel.entries if all(expressions.evaluate(g, values) for g in e.grid)
    ]


@pytest.mark.parametrize("name", ["sm_80", "sm_90a"])
@pytest.mark.parametrize("n", [40, 384, 4096, 14336])
@pytest.mark.parametrize("bits", [4, 16])
@pytest.mark.parametrize(("k", "a"), [(1024, "f32"), (1024, "bf16"), (14336, "f32")])
def test_exactly_one_product_takes_each_number_of_rows(
    name: str, n: int, bits: int, k: int, a: str
) -> None:
    weights = Weights(k, n, bits, *((64, 2) if bits == 4 else ()))
    kernel = fewrows.kernel(weights, IDENTITY, TARGETS[name], "kernel", a, a)
    flows = fewflow.serves(weights, TARGETS[name])
    assert flows == (name == "sm_90a" and bits == 4 and n > 384)
    for rows in (1, 2, 3, 8, 9, 16, 17, 32, 33, 64, 65, 1000):
        for stride, address in ((k, 0), (k + 1, 0), (k, 2)):
            *before, product = names_of(kernel, rows, stride, address)
            text = kernel.source.split(f" kernel{product}(")[1].split("\n}")[0]
            aligned = stride == k and address == 0
            as_is = a == "bf16" and aligned
            if "few_wide<" in text:
                assert n == 14336
                assert rows > 32
                assert before == ["_order"]
                continue
            assert rows <= 32 or not (flows and n == 14336)
            if "few_panels<" in text:
                assert rows <= 2
                assert not flows or (a == "f32" and n == 14336)
                assert not before
                continue
            if flows and rows <= 16:
                assert "few_flow<" in text
                copied = aligned and (a == "bf16" or min(n, k) < 8192)
                assert product.endswith("_rounded") != copied
                assert before == ([] if copied else ["_rows"])
                continue
            assert product.endswith("_as_is") == as_is
            assert before == (["_rows"] if "few_rounds<" in text and not as_is else [])
    assert not names_of(kernel, 0, k, 0)
    for entry in kernel.entries:
        assert int(entry.shared) <= (TARGETS[name].l1_kib - 1) * 1024
        assert name == "sm_90a" or (entry.cluster == (1, 1, 1) and not entry.overlaps)


@pytest.mark.parametrize("row", [pytest.param("sm_80", marks=pytest.mark.slow), "sm_90a"])
@pytest.mark.parametrize("name", ["grouped_mma", "grouped_imma", "mma_matmul", "simt_matmul"])
def test_kernels_keep_their_sums_in_registers(name: str, row: str) -> None:
    found = family(name)
    assert found.cuda is not None
    keep_registers(found.cuda(found.cases()[0].spec, TARGETS[row], "kernel"), row)


@pytest.mark.slow
@pytest.mark.parametrize("a", ["f32", "bf16"])
@pytest.mark.parametrize(("n", "k"), [(4096, 4096), (14336, 4096), (4096, 14336)])
def test_long_products_by_codes_keep_their_sums_in_registers(n: int, k: int, a: str) -> None:
    weights = Weights(k, n, 4, 128, 2, zeros=True)
    keep_registers(fewrows.kernel(weights, IDENTITY, TARGETS["sm_90a"], "kernel", a, a), "sm_90a")


def keep_registers(kernel: CudaKernel, row: str) -> None:
    """Nothing is spilled, and tensor cores are used."""
    if not all(tools()):
        pytest.skip("no tool makes cubins here")
    source = prelude.expand(kernel.source)
    made = to_cubin(to_ptx(source, "kernel", TARGETS[row]), "kernel", TARGETS[row])
    assert made.resources
    assert not [r for r in made.resources if r.spill_stores or r.spill_loads]


@pytest.mark.parametrize("name", ["grouped_mma", "grouped_imma", "wgmma_scaled_matmul"])
def test_sums_of_cases_do_not_overflow_where_their_references_do_not(name: str) -> None:
    for case in family(name).cases():
        (expected,) = case.expected
        great = np.abs(expected[np.isfinite(expected)])
        assert np.max(great, initial=0) < np.finfo(np.float32).max / 2, case.label


@pytest.mark.parametrize("name", ["mma_matmul", "mma_conv"])
def test_weights_beyond_f16_are_left_to_others(name: str) -> None:
    suits = family(name).suits
    assert suits is not None
    assert suits(np.array([[65504.0, -1.0]], np.float32))
    for value in (65520.0, np.inf, np.nan):
        assert not suits(np.array([[0.0, value]], np.float32))


def test_formats_that_families_of_codes_do_not_read() -> None:
    with pytest.raises(
        ValueError, match="no kernel for w2-g64: expected 4 or 8 bits, groups of 32"
    ):
        GroupedMmaSpec(64, 64, Integers(2, 64))
    expected = (
        "no kernel for w4-g64: expected 4 or 8 bits, groups of 32, rows in 8-bit codes by the "
    )
    with pytest.raises(ValueError, match=f"{expected}same groups or whole"):
        GroupedImmaSpec(64, 64, Integers(4, 64))
    both = Integers(4, 64, reads=Int8(64))
    bytes_ = [family(n).layout for n in ("grouped_mma", "grouped_imma")]
    assert bytes_[0](GroupedMmaSpec(64, 64, both)) == bytes_[1](GroupedImmaSpec(64, 64, both))

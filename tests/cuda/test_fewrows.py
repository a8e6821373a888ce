"""Weights in the order of tensor-core operands, element by element, and code that reads them."""

from __future__ import annotations

import numpy as np
import pytest

from tilewright.backends.cuda import fewrows, prelude
from tilewright.backends.cuda.fewrows import Weights
from tilewright.backends.cuda.toolchain import to_cubin, to_ptx, tools
from tilewright.backends.kernels.family import evaluate
from tilewright.backends.kernels.registry import family
from tilewright.backends.llvm.epilogue import IDENTITY
from tilewright.backends.target import TARGETS

K, N = 150, 70


def lanes(weights: Weights):
    """Every element [k, n] with its panel, chunk, lane, place r of its column, and j of its k."""
    for k in range(weights.k):
        for n in range(weights.n):
            chunk, inside = divmod(k, 32)
            panel, column = divmod(n, 32)
            lane = column % 8 * 4 + inside // 8
            yield k, n, panel, chunk, lane, column // 8, inside % 8


@pytest.mark.parametrize("bits", [4, 8])
def test_a_lane_loads_the_codes_that_its_operands_are_made_of(bits: int) -> None:
    weights = Weights(K, N, bits, 64, 2)
    codes = np.random.default_rng(bits).integers(0, 2**bits, (K, N)).astype(np.uint8)
    words = fewrows.pack_codes(codes, weights).view(np.uint32)
    words = words.reshape(weights.panels, weights.chunks, bits // 4, 32, 4)
    for k, n, panel, chunk, lane, r, j in lanes(weights):
        shift = 4 * (j // 2) + 16 * (j % 2)
        halves = words[panel, chunk, :, lane, r] >> shift & 15
        assert sum(int(h) << 4 * i for i, h in enumerate(halves)) == codes[k, n]


def test_numbers_of_16_bits_lie_as_operands() -> None:
    weights = Weights(K, N, 16)
    bits = np.random.default_rng(1).integers(0, 2**16, (K, N)).astype(np.uint16)
    packed = fewrows.pack_codes(bits, weights).view(np.uint16)
    packed = packed.reshape(weights.panels, weights.chunks, 4, 32, 8)
    for k, n, panel, chunk, lane, r, j in lanes(weights):
        assert packed[panel, chunk, r, lane, j] == bits[k, n]


@pytest.mark.parametrize("name", ["sm_80", "sm_90a"])
@pytest.mark.parametrize("n", [40, 384, 4096, 14336])
@pytest.mark.parametrize("bits", [4, 16])
def test_exactly_one_function_takes_each_number_of_rows(name: str, n: int, bits: int) -> None:
    weights = Weights(1024, n, bits, *((64, 2) if bits == 4 else ()))
    kernel = fewrows.kernel(weights, IDENTITY, TARGETS[name], "kernel")
    for rows in (1, 2, 3, 8, 9, 16, 17, 32, 33, 64, 65, 1000):
        grids = [[evaluate(g, (rows, 0, 0)) for g in e.grid] for e in kernel.entries]
        assert sum(0 not in grid for grid in grids) == 1
    assert all(0 in [evaluate(g, (0, 0, 0)) for g in e.grid] for e in kernel.entries)
    for entry in kernel.entries:
        assert int(entry.shared) <= (TARGETS[name].l1_kib - 1) * 1024
        assert name == "sm_90a" or (entry.cluster == (1, 1, 1) and not entry.overlaps)


@pytest.mark.parametrize("name", ["grouped_mma", "mma_matmul", "simt_matmul"])
def test_kernels_keep_their_sums_in_registers(name: str) -> None:
    if not all(tools()):
        pytest.skip("no tool makes cubins here")
    found = family(name)
    target = TARGETS["sm_90a"]
    spec = found.cases()[0].spec
    assert found.cuda is not None
    source = prelude.expand(found.cuda(spec, target, "kernel").source)
    made = to_cubin(to_ptx(source, "kernel", target), "kernel", target)
    assert made.resources
    assert not [r for r in made.resources if r.spill_stores or r.spill_loads]

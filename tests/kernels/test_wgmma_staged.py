"""What epilogues of products on Hopper's tensor cores read ahead, by registers and by the ring."""

import re

import pytest

from tilewright.backends.kernels.wgmma_matmul import Tile, WgmmaMatmulSpec, cuda, spec, staged
from tilewright.backends.kernels.wgmma_matmul.cases import BIAS_RELU_RESIDUAL, GELU, HALF_RESIDUAL
from tilewright.backends.llvm.epilogue import IDENTITY, Epilogue, Extra, Step
from tilewright.backends.target import lookup
from tilewright.runtime import expressions

TWO = Epilogue((Extra("full"), Extra("full", "f16")), (Step("add", (0, 1)), Step("mul", (3, 2))), 4)
WIDE, TURNS = Tile(128, 192, 5, 2), Tile(128, 128, 6, 2, together=False)


def product(epilogue, tile=WIDE, c="bf16", k=256, n=768):
    return WgmmaMatmulSpec(k, n, 1, "bf16", epilogue, "bf16", c, tile)


@pytest.mark.parametrize(
    ("one", "vector", "matrices", "stages", "each"),
    [
        (product(IDENTITY), None, (), 0, 1),
        (product(GELU), 0, (), 0, 1),
        # Boxes of 32 and of 64 columns, 16 KiB; stages of 40 and 32 KiB.
        (product(BIAS_RELU_RESIDUAL), 0, (1,), 3, 2),
        (product(HALF_RESIDUAL), 0, (1,), 2, 2),
        (product(HALF_RESIDUAL, TURNS), 0, (1,), 1, 2),
        (product(TWO, TURNS), None, (0, 1), 3, 2),
        # Sums and columns of the vector leave too few registers.
        (product(GELU, Tile(128, 256, 4, 2)), 0, (), 0, 1),
        (product(HALF_RESIDUAL, Tile(128, 256, 4, 2)), None, (1,), 2, 3),
        # The ring has no room; parts of K have no epilogue, or one of their own.
        (product(TWO, Tile(128, 256, 4, 2)), None, (), 0, 1),
        (product(GELU, Tile(128, 64, 4, 2, split=2)), None, (), 0, 1),
        (product(GELU, Tile(64, 64, 4, 1, split=2, within=True)), None, (), 0, 1),
    ],
)
def test_what_is_brought(one, vector, matrices, stages, each):
    found = staged.staged(one)
    assert (found.vector, found.matrices, found.stages) == (vector, matrices, stages)
    if matrices:
        assert found.each == each


@pytest.mark.parametrize("shift", [0, 4, 16])
@pytest.mark.parametrize("stride", [768, 770, 772])
def test_matrices_that_the_accelerator_does_not_take_have_an_entry_without_their_maps(
    stride, shift
):
    one = product(BIAS_RELU_RESIDUAL)
    kernel = cuda.emit(one, lookup("sm_90a"), "kernel")
    # A, B, bias, matrix, column, C; rows, strides of A, C, matrix and column.
    values = {f"a{i}": 0 for i in range(6)} | {"a3": shift, "units": 128, "sms": 132}
    values |= {"p0": 4096, "p1": 256, "p2": 768, "p3": stride, "p4": 1}
    taken = [
        e for e in kernel.entries if e.suffix == "" and expressions.evaluate(e.grid[0], values) > 0
    ]
    assert len(taken) == 1
    (entry,) = taken
    assert len(entry.maps) == 3
    aligned = shift % 16 == 0 and stride % 4 == 0
    assert (entry.maps[2].operand == 3) == aligned
    if aligned:
        assert [expressions.evaluate(t, values) for t in entry.maps[2].strides] == [4 * stride]
        assert entry.maps[2].box == (32, 128)
    assert "const bool brought = (u64)a3 % 16 == 0 && 4 * p3 % 16 == 0;" in kernel.source


def test_every_box_of_a_tile_is_brought_once():
    for one in (product(BIAS_RELU_RESIDUAL), product(TWO, TURNS), product(HALF_RESIDUAL)):
        text = cuda.emit(one, lookup("sm_90a"), "kernel").source
        plan = staged.staged(one)
        found = re.findall(
            r"load_box\(at \+ (\d+) \* BM \* 128, &m(\d), full, n \* BN \+ (\d+),", text
        )
        expected = []
        for place, i in enumerate(plan.matrices):
            columns = 32 if one.epilogue.extras[i].dtype == "f32" else 64
            expected += [(2 + place, c) for c in range(0, one.tile.columns, columns)]
        assert [(int(m), int(column)) for _, m, column in found] == expected
        assert [int(at) for at, _, _ in found] == [b % plan.each for b in range(len(expected))]


def test_a_group_gives_its_turn_away_when_its_matrices_are_there():
    """Else another group, which waits for later stages, could meet one whose bytes are yet to come
    a round too early: barriers only tell odd rounds from even ones."""
    text = cuda.emit(product(HALF_RESIDUAL, TURNS), lookup("sm_90a"), "kernel").source
    steps = text.index("multiply_wait<1>();")
    waits = text.index("barrier_wait(bars + 16 * (around", steps)
    assert waits < text.index("barrier_arrive(bars + TURNS", steps)
    assert staged.staged(product(HALF_RESIDUAL, TURNS)).stages < TURNS.stages


def test_exact_products_bring_their_residuals_too():
    exact = WgmmaMatmulSpec(256, 768, 6, epilogue=BIAS_RELU_RESIDUAL, tile=spec.start(6))
    assert staged.staged(exact).matrices == (1,)

"""2:4 weights on Hopper's tensor cores: what is recognized, words of threads, code, emulation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from support.emulated_kernels import COMPILER, check

from tilewright.backends.cuda import prelude
from tilewright.backends.cuda.toolchain import disassemble, to_both, tools
from tilewright.backends.kernels.candidates import candidates, fitted
from tilewright.backends.kernels.registry import family
from tilewright.backends.kernels.tasks import MatmulTask
from tilewright.backends.kernels.wgmma_matmul.cases import BIAS_RELU_RESIDUAL
from tilewright.backends.kernels.wgmma_sparse_matmul import packing, spec, tiles
from tilewright.backends.kernels.wgmma_sparse_matmul.cases import sparse
from tilewright.backends.kernels.wgmma_sparse_matmul.spec import SparseTile, WgmmaSparseMatmulSpec
from tilewright.backends.llvm.epilogue import IDENTITY, Epilogue, Extra, Step
from tilewright.backends.target import lookup

FAMILY = family("wgmma_sparse_matmul")
HOPPER = lookup("sm_90a")


def matrix(k: int, n: int, pattern: str = "full") -> np.ndarray:
    return sparse(np.random.default_rng([k, n]), k, n, pattern)


def test_weights_that_are_2_in_4_get_kernels_and_others_do_not() -> None:
    task, w = MatmulTask(260, 96), matrix(260, 96)

    def found(weights: np.ndarray, error: float = 1e-2) -> set[str]:
        these = fitted(task, HOPPER, weights, error)
        return {c.spec.element for c in these if c.family is FAMILY}

    assert found(w) == {"bf16", "f16"}
    assert found(w, 1e-3) == {"f16"}
    assert found(w, 0.0) == set()
    assert found(np.zeros_like(w)) == {"bf16", "f16"}
    third = w.copy()
    third[100:103, 77] = 1
    assert found(third) == set()
    large = w.copy()
    large[0, w[:4, 0].argmax()] = 7e4
    assert found(large) == found(np.where(w == w.max(), np.nan, w)) == set()
    transposed = np.ascontiguousarray(matrix(96, 260).T)
    assert found(transposed) == set()
    assert FAMILY.fitted is not None
    assert FAMILY.fitted("no task", HOPPER, w) == ()


def test_the_format_is_offered_by_its_name() -> None:
    found = candidates(MatmulTask(260, 96), HOPPER, 1e-2, frozenset({"bf16-2in4"}))
    assert {c.format for c in found if c.family is FAMILY} == {"bf16-2in4"}
    assert not [c for c in candidates(MatmulTask(260, 96), HOPPER, 1e-2) if c.family is FAMILY]
    assert spec.candidates(MatmulTask(8, 96), HOPPER) == ()


def test_residuals_cost_what_is_read_of_them() -> None:
    plain = WgmmaSparseMatmulSpec(4096, 4096)
    for split in (1, 2):
        one = replace(plain, tile=replace(plain.tile, split=split))
        times = [
            tiles.microseconds(replace(one, epilogue=e), 1024)
            for e in (IDENTITY, residual("f16"), residual("f32"))
        ]
        assert times[0] < times[1] < times[2]


def residual(dtype: str) -> Epilogue:
    return Epilogue((Extra("full", dtype),), (Step("add", (0, 1)),), 2)


def test_tiles_suit_the_columns_and_the_parts_of_k() -> None:
    small = tiles.variants(WgmmaSparseMatmulSpec(64, 60), HOPPER)
    assert {one.tile.split for one in small} == {1}
    assert all(one.tile.cluster == 1 for one in small)
    large = tiles.variants(WgmmaSparseMatmulSpec(4096, 4096), HOPPER)
    assert {one.tile.split for one in large} == {1, 2, 4, 8}
    assert all(one.tile.shared <= spec.SHARED for one in large)
    # More rows take longer, and few rows want narrow tiles.
    for one in large:
        assert tiles.microseconds(one, 64) <= tiles.microseconds(one, 8192)
    best = min(large, key=lambda one: tiles.microseconds(one, 8192))
    assert best.tile.rows == 256
    assert min(large, key=lambda one: tiles.microseconds(one, 8)).tile.rows <= 64


def test_words_say_which_k_a_thread_stands_for() -> None:
    """A value alone at each place: the word of its thread, by the picture of the PTX manual."""
    k, n = 192, 130
    one = WgmmaSparseMatmulSpec(k, n)
    for at, column in ((0, 0), (5, 7), (63, 8), (64, 63), (79, 64), (130, 77), (191, 129)):
        w = np.zeros((k, n), np.float32)
        w[at, column] = 2
        words = packing.pack(w, one)[one.places_at :].view(np.uint32).reshape(one.places, 4, 8, 4)
        step, quarter = at // 64, at % 64 // 16
        row = column % 64
        word = words[step * one.atoms + column // 64, row // 16, row % 8, quarter]
        bits = int(word) >> (16 * (row % 16 // 8) + 4 * (at % 16 // 4)) & 15
        assert bits == {0: 0b1100, 1: 0b1101, 2: 0b1110, 3: 0b1100}[at % 4], (at, column)
        assert (words.reshape(-1) == 0xEEEEEEEE).sum() >= words.size - 1


def test_bytes_are_9_sixteenths_of_the_dense_ones() -> None:
    one = WgmmaSparseMatmulSpec(4096, 4096)
    dense = 2 * 4096 * 4096
    assert dense * 9 // 16 <= one.packed_bytes <= dense * 0.5626


def test_more_than_two_of_four_cannot_be_packed() -> None:
    w = matrix(64, 64)
    w[:3] = 1
    with pytest.raises(ValueError, match="more than two of four channels are not zero"):
        packing.pack(w, WgmmaSparseMatmulSpec(64, 64))


@pytest.mark.skipif(not all(tools()), reason="no CUDA compiler or assembler")
@pytest.mark.parametrize(
    "tile",
    [
        tiles.MEASURED[-1].tile,
        *(pytest.param(r.tile, marks=pytest.mark.slow) for r in tiles.MEASURED),
    ],
    ids=str,
)
def test_code_is_that_of_sparse_tensor_cores_and_nothing_is_spilled(tile: SparseTile) -> None:
    assert FAMILY.cuda is not None
    one = WgmmaSparseMatmulSpec(
        520, 520, "f16", epilogue=BIAS_RELU_RESIDUAL, a="f16", c="f16", tile=tile
    )
    text = prelude.expand(FAMILY.cuda(one, HOPPER, "kernel").source)
    _, made = to_both(text, "kernel", HOPPER)
    assert not [r for r in made.resources if r.spill_stores or r.spill_loads or r.stack]
    machine = disassemble(made.code)
    if machine:
        assert "HGMMA.SP.64x" in machine


LABELS = (
    "3x33x70+0-bf16-0-f32-f32",
    "40x70x150+0-bf16-4-f32-f32",
    "150x520x300+0-bf16-4-bf16-bf16-SparseTile(columns=64, rows=32, stages=3",
    "150x520x300+0-bf16-4-bf16-bf16-SparseTile(columns=128, rows=64, stages=4, cluster=2",
    "20x40x72+0-bf16-0-bf16-bf16",
    "192x192x130+0-bf16-0-f32-f32",
)


@pytest.mark.skipif(COMPILER is None, reason="no g++")
@pytest.mark.parametrize(
    "label", [LABELS[3], *(pytest.param(one, marks=pytest.mark.slow) for one in LABELS)]
)
def test_the_text_computes_what_its_reference_does(label: str) -> None:
    case = next(c for c in FAMILY.cases() if c.label.startswith(label))
    check(FAMILY, case, HOPPER, orders=("late", "any"))


def test_what_there_is_not_is_refused() -> None:
    with pytest.raises(ValueError, match="no 2:4 product of f32"):
        WgmmaSparseMatmulSpec(64, 64, "f32")
    with pytest.raises(ValueError, match="no 2:4 product of f16 codes"):
        WgmmaSparseMatmulSpec(64, 64, "f16", coded=True)
    with pytest.raises(ValueError, match="formats f16 and f32 with elements of bf16"):
        WgmmaSparseMatmulSpec(64, 64, a="f16")
    with pytest.raises(ValueError, match="K and N must not be 0"):
        WgmmaSparseMatmulSpec(0, 64)
    with pytest.raises(ValueError, match="1 steps of K in 2 parts"):
        WgmmaSparseMatmulSpec(64, 64, tile=SparseTile(split=2))
    with pytest.raises(ValueError, match="no tile of 192 columns and 128 rows"):
        SparseTile(192)
    with pytest.raises(ValueError, match="a ring of 13 stages for 128 rows"):
        SparseTile(stages=13)
    assert FAMILY.cuda is not None
    with pytest.raises(ValueError, match="sm_80 has no wgmma"):
        FAMILY.cuda(WgmmaSparseMatmulSpec(64, 64), lookup("sm_80"), "kernel")
    tile = SparseTile(128, 256, 12)
    with pytest.raises(ValueError, match="of 232448 bytes of shared memory"):
        FAMILY.cuda(WgmmaSparseMatmulSpec(64, 64, tile=tile), HOPPER, "kernel")

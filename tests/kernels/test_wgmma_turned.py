"""Products of few rows whose columns are the left operand: tiles, code, emulation, refusals."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.emulated_kernels import COMPILER, check

from tilewright.backends.cuda.toolchain import tools
from tilewright.backends.kernels.candidates import candidates
from tilewright.backends.kernels.registry import family
from tilewright.backends.kernels.tasks import MatmulTask
from tilewright.backends.kernels.wgmma_matmul import WgmmaMatmulSpec
from tilewright.backends.kernels.wgmma_matmul import tiles as plain
from tilewright.backends.kernels.wgmma_matmul.cases import GELU, HALF_RESIDUAL
from tilewright.backends.kernels.wgmma_turned_matmul import (
    TurnedTile,
    WgmmaTurnedMatmulSpec,
    cuda,
    spec,
    tiles,
)
from tilewright.backends.kernels.wgmma_turned_matmul.cases import cases, made
from tilewright.backends.target import lookup
from tilewright.tools.bench.gpu_kernels import cubin

FAMILY = family("wgmma_turned_matmul")
HOPPER = lookup("sm_90a")
EMULATED = {case.label: case for case in cases() if case.spec.product.element == "bf16"}


def product(k: int, n: int, tile: TurnedTile | None = None) -> WgmmaTurnedMatmulSpec:
    made_ = WgmmaMatmulSpec(k, n, 1, "bf16", GELU, "bf16", "bf16")
    return WgmmaTurnedMatmulSpec(made_, tile or TurnedTile())


def quick() -> list[object]:
    """Parts of K, rows that are not finite."""
    parts = ("split=4", "bf16-f32-TurnedTile(rows=32, columns=64, stages=4")
    first = {next(label for label in EMULATED if part in label) for part in parts}
    return [
        label if label in first else pytest.param(label, marks=pytest.mark.slow)
        for label in EMULATED
    ]


@pytest.mark.skipif(COMPILER is None, reason="no g++")
@pytest.mark.parametrize("label", quick())
def test_the_text_computes_what_its_reference_does(label: str) -> None:
    check(FAMILY, EMULATED[label], HOPPER, orders=("late", "any"))


@pytest.mark.parametrize(("k", "n"), [(384, 1152), (1536, 384), (70, 40), (3072, 768)])
def test_variants_compute_the_same_with_other_tiles(k: int, n: int) -> None:
    first = product(k, n)
    found = tiles.variants(first, HOPPER)
    assert found[0] == first
    assert {replace(one, tile=first.tile) for one in found} == {first}
    assert all(one.tile.shared <= spec.plain.SHARED for one in found)
    for one in found:
        assert tiles.microseconds(one, 1) <= tiles.microseconds(one, 4096)


@pytest.mark.parametrize(("k", "n"), [(384, 1152), (768, 3072), (3072, 768)])
def test_few_rows_are_turned_and_many_are_not(k: int, n: int) -> None:
    def turned(m: int) -> bool:
        one = product(k, n)
        best = tiles.fastest(one, m, HOPPER)
        other = plain.fastest(one.product, m, HOPPER)
        return tiles.microseconds(best, m) < plain.microseconds(other, m)

    assert turned(128)
    assert not turned(4096)


def test_candidates_and_formats() -> None:
    def found(error: float) -> set[str]:
        these = candidates(MatmulTask(64, 64), HOPPER, error)
        return {c.spec.product.element for c in these if c.family is FAMILY}

    assert found(1e-2) == {"bf16", "f16"}
    assert found(1e-3) == {"f16"}
    assert found(0.0) == set()
    one = WgmmaTurnedMatmulSpec(WgmmaMatmulSpec(64, 64, 1, "f16", HALF_RESIDUAL))
    stored = spec.stored(one, ("f16",), "f16")
    assert stored is not None
    assert (stored.product.a, stored.product.c) == ("f16", "f16")
    assert spec.stored(one, ("bf16",), "f32") is None


@pytest.mark.parametrize(
    ("tile", "words"),
    [
        ((12, 64), "no tile of 12 x 64 for 1 groups"),
        ((32, 96), "no tile of 32 x 96 for 1 groups"),
        ((32, 512, 4, 2), "512 columns of a tile, at most 256"),
        ((32, 64, 1), "a ring of 1 stages"),
        ((8, 64, 4, 1, 16), "8 rows cannot be added up by 16 blocks"),
    ],
)
def test_tiles_that_there_are_not(tile: tuple[int, ...], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        TurnedTile(*tile)


def test_specs_that_there_are_not() -> None:
    with pytest.raises(ValueError, match="only one product for each element"):
        WgmmaTurnedMatmulSpec(WgmmaMatmulSpec(64, 64, 3))
    with pytest.raises(ValueError, match="1 steps of K in 2 parts"):
        WgmmaTurnedMatmulSpec(WgmmaMatmulSpec(64, 64), TurnedTile(split=2))
    with pytest.raises(ValueError, match="sm_80 has no wgmma"):
        cuda.emit(product(64, 64), lookup("sm_80"), "product")
    large = product(8192, 256, TurnedTile(256, 256, 8))
    with pytest.raises(ValueError, match="takes 525568 of 232448 bytes"):
        cuda.emit(large, HOPPER, "product")


@pytest.mark.skipif(not all(tools()), reason="no CUDA compiler or assembler")
@pytest.mark.parametrize("tile", [TurnedTile(32, 64, 6), TurnedTile(64, 128, 6, 2, 4)], ids=str)
def test_no_register_is_spilled(tile: TurnedTile) -> None:
    made_ = cubin(cuda.emit(product(1536, 384, tile), HOPPER, "product"), "product", HOPPER)
    for found in made_.resources:
        assert (found.spill_stores, found.spill_loads, found.stack) == (0, 0, 0), found


def test_rows_that_lie_apart_are_copied_first() -> None:
    entries = cuda.emit(made(5, 33, 70, "bf16", gap=3).spec, HOPPER, "product").entries
    assert [one.suffix for one in entries] == ["_convert", "", ""]

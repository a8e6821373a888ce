"""Products whose rows are normalized in a cluster: tiles, code, emulation, refusals."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from support.emulated_kernels import COMPILER, check

from tilewright.backends.cuda.toolchain import tools
from tilewright.backends.kernels.candidates import candidates
from tilewright.backends.kernels.family import Case
from tilewright.backends.kernels.registry import family
from tilewright.backends.kernels.tasks import MatmulTask
from tilewright.backends.kernels.wgmma_matmul import Tile, WgmmaMatmulSpec
from tilewright.backends.kernels.wgmma_normed_matmul import (
    NormedMatmulTask,
    NormedTile,
    WgmmaNormedMatmulSpec,
    spec,
    tiles,
)
from tilewright.backends.kernels.wgmma_normed_matmul.cases import (
    BIAS_RESIDUAL,
    LAYER,
    PARTS,
    RMS,
    cases,
    made,
)
from tilewright.backends.llvm.epilogue import Epilogue, Extra, Step
from tilewright.backends.target import lookup
from tilewright.tools.bench.gpu_kernels import cubin

FAMILY = family("wgmma_normed_matmul")
HOPPER = lookup("sm_90a")
HALF_RESIDUAL = replace(BIAS_RESIDUAL, extras=(Extra("row"), Extra("full", "f16")))
EMULATED = {case.label: case for case in cases() if case.spec.product.element == "bf16"}


def product(k: int = 1536, n: int = 768, **others: object) -> WgmmaNormedMatmulSpec:
    plain = WgmmaMatmulSpec(k, n, 1, "bf16", BIAS_RESIDUAL, "bf16", "bf16")
    return replace(
        WgmmaNormedMatmulSpec(plain, LAYER, spec.start(plain)),
        **others,  # type: ignore[arg-type]
    )


def quick() -> list[object]:
    """Rows in several formats, halves of K, turned tiles, rows that are not finite."""
    labels = list(EMULATED)
    first = {
        next(label for label in labels if part in label)
        for part in ("split=4, turned=True", "special", "-Tile(")
    }
    return [
        label if label in first else pytest.param(label, marks=pytest.mark.slow) for label in labels
    ]


@pytest.mark.skipif(COMPILER is None, reason="no g++")
@pytest.mark.parametrize("label", quick())
def test_the_text_computes_what_its_reference_does(label: str) -> None:
    check(FAMILY, EMULATED[label], HOPPER, orders=("late", "any"))


@pytest.mark.skipif(COMPILER is None, reason="no g++")
def test_rows_far_from_zero_keep_their_digits() -> None:
    """Means of 3,000 beside deviations of 1: squares of sums would have none left."""
    case = made(20, 64, 136, "bf16", tile=NormedTile(64, 48, 3, 1))
    residual = case.args[3] + np.float32(3000)
    given = (*case.args[:3], residual, *case.args[4:])
    assert FAMILY.reference is not None
    expected = FAMILY.reference(case.spec, given, case.dims)
    # Sums are rounded to 2.4e-4 before anything is normalized.
    far = replace(case, args=given, expected=expected, rtol=1e-3, atol=1e-3)
    assert isinstance(far, Case)
    check(FAMILY, far, HOPPER, orders=("any",))


def test_rows_that_a_cluster_cannot_hold_have_no_candidate() -> None:
    def found(n: int, error: float = 1e-2) -> set[tuple[str, int]]:
        task = NormedMatmulTask(MatmulTask(64, n, BIAS_RESIDUAL), RMS)
        these = candidates(task, HOPPER, error)
        return {(c.spec.product.element, c.spec.product.products) for c in these}

    assert found(1024) == {("bf16", 1), ("bf16", 3), ("bf16", 6), ("f16", 1)}
    assert found(1024, 0.0) == {("bf16", 6)}
    assert found(2048) == {("bf16", 1), ("f16", 1)}
    assert found(2056) == set()
    assert spec.candidates(MatmulTask(64, 64), HOPPER) == ()
    assert candidates(NormedMatmulTask(MatmulTask(64, 64), RMS), lookup("sm_80"), 1e-2) == ()


@pytest.mark.parametrize("n", [100, 384, 500, 768, 2048])
def test_variants_compute_the_same_with_other_tiles(n: int) -> None:
    first = product(768, n)
    found = tiles.variants(first, HOPPER)
    assert found[0] == first
    alike = {replace(one, tile=first.tile, product=first.product) for one in found}
    assert alike == {first}
    assert {replace(one.product, tile=Tile()) for one in found} == {
        replace(first.product, tile=Tile())
    }
    whole = [one for one in found if one.tile is not None]
    assert all(one.shared <= spec.SHARED and one.blocks <= spec.CLUSTER for one in whole)
    assert all(one.product.tile.split > 1 for one in found if one.tile is None)
    for one in found:
        assert tiles.microseconds(one, 1) <= tiles.microseconds(one, 4096)


def test_vectors_of_long_epilogues_have_room_in_shared_memory() -> None:
    steps = [Step("add", (0, 1)), *(Step("add", (14 + i, i + 1)) for i in range(1, 14))]
    long = Epilogue(tuple(Extra("row") for _ in range(14)), tuple(steps), 28)
    found = spec.candidates(NormedMatmulTask(MatmulTask(4096, 1024, long), LAYER), HOPPER)
    assert {one.product.products for one in found} == {1, 3}
    assert FAMILY.cuda is not None
    for one in found:
        for variant in tiles.variants(one, HOPPER):
            FAMILY.cuda(variant, HOPPER, "product")


def test_few_rows_take_parts_of_k() -> None:
    few = tiles.fastest(product(1536, 384), 128, HOPPER)
    assert few.tile is None
    assert few.product.tile.split >= 2


@pytest.mark.skipif(not all(tools()), reason="no CUDA compiler or assembler")
@pytest.mark.parametrize(
    "one",
    [
        product(tile=NormedTile(128, 256, 4, 2)),
        pytest.param(
            product(n=384, tile=NormedTile(16, 64, 8, 1, turned=True)), marks=pytest.mark.slow
        ),
        WgmmaNormedMatmulSpec(
            WgmmaMatmulSpec(768, 768, 1, "bf16", HALF_RESIDUAL, "bf16", "f16", PARTS[0]),
            LAYER,
            None,
        ),
        pytest.param(
            WgmmaNormedMatmulSpec(
                WgmmaMatmulSpec(768, 768, 1, "f16", HALF_RESIDUAL, "f16", "f16"),
                LAYER,
                NormedTile(128, 256, 4, 2),
            ),
            marks=pytest.mark.slow,
        ),
        pytest.param(product(tile=NormedTile(128, 192, 4, 2)), marks=pytest.mark.slow),
        pytest.param(product(tile=NormedTile(64, 256, 4, 1)), marks=pytest.mark.slow),
        pytest.param(product(tile=NormedTile(64, 192, 4, 1, 2)), marks=pytest.mark.slow),
        pytest.param(product(tile=NormedTile(32, 192, 4, 1, 2, True)), marks=pytest.mark.slow),
        pytest.param(
            WgmmaNormedMatmulSpec(
                WgmmaMatmulSpec(768, 768, 6, epilogue=BIAS_RESIDUAL),
                LAYER,
                tile=NormedTile(64, 128, 2, 1),
            ),
            marks=pytest.mark.slow,
        ),
    ],
    ids=str,
)
def test_no_register_is_spilled(one: WgmmaNormedMatmulSpec) -> None:
    assert FAMILY.cuda is not None
    made_ = cubin(FAMILY.cuda(one, HOPPER, "product"), "product", HOPPER)
    for found in made_.resources:
        assert (found.spill_stores, found.spill_loads, found.stack) == (0, 0, 0), found


def test_formats_of_values() -> None:
    one = product()
    handed = spec.stored(one, ("f32",), "f16")
    assert handed is not None
    assert (handed.product.a, handed.product.c) == ("f32", "f16")
    assert spec.stored(one, ("f16",), "f32") is None
    assert spec.stored(one, ("bf16",), "i8") is None
    exact = WgmmaNormedMatmulSpec(WgmmaMatmulSpec(64, 64, 6), RMS)
    assert spec.stored(exact, ("f32",), "bf16") is None


def test_what_there_is_not_is_refused() -> None:
    with pytest.raises(ValueError, match="no tile of 64 x 60 for 1 groups"):
        NormedTile(64, 60)
    with pytest.raises(ValueError, match="no tile of 16 x 96 for 1 groups"):
        NormedTile(16, 96, turned=True)
    with pytest.raises(ValueError, match="a ring of 1 stages"):
        NormedTile(stages=1)
    with pytest.raises(ValueError, match="64 rows cannot be added up by 3 blocks"):
        NormedTile(split=3)
    with pytest.raises(ValueError, match="leaves no parts of K in the workspace"):
        product(tile=None)
    with pytest.raises(ValueError, match="12 blocks in a cluster, at most 8"):
        product(tile=NormedTile(64, 64))
    with pytest.raises(ValueError, match="1 steps of K in 2 parts"):
        product(k=64, tile=NormedTile(64, 256, split=2))
    assert FAMILY.cuda is not None
    with pytest.raises(ValueError, match="sm_80 has no wgmma"):
        FAMILY.cuda(product(), lookup("sm_80"), "product")
    with pytest.raises(ValueError, match="of 232448 bytes of shared memory"):
        FAMILY.cuda(product(tile=NormedTile(128, 256, 6, 2)), HOPPER, "product")

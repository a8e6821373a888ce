"""Products on Hopper's tensor cores: code of every tile, refusals, errors of split operands."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tilewright.backends.cuda.toolchain import Resources, disassemble, disassembler, tools
from tilewright.backends.kernels.wgmma_matmul import (
    FAMILY,
    Tile,
    WgmmaMatmulSpec,
    cuda,
    spec,
    tiles,
)
from tilewright.backends.kernels.wgmma_matmul.cases import BIAS_RELU_RESIDUAL, GELU
from tilewright.backends.target import lookup
from tilewright.tools.bench.gpu_kernels import cubin

SM_90A = lookup("sm_90a")
needs_compiler = pytest.mark.skipif(not all(tools()), reason="no CUDA compiler or assembler")


def main_specs() -> list[WgmmaMatmulSpec]:
    """Every tile with formats as models use them, and the ways to divide K."""
    found = []
    for products, rows in tiles.MEASURED.items():
        kind = "bf16" if products == 1 else "f32"
        found += [
            WgmmaMatmulSpec(512, 512, products, "bf16", GELU, kind, kind, row.tile) for row in rows
        ]
    small = tiles.MEASURED[1][-1].tile
    for tile in (replace(small, split=2), replace(small, split=2, within=True)):
        found.append(WgmmaMatmulSpec(512, 512, 1, "bf16", GELU, "bf16", "bf16", tile))
    found += [  # A residual is read early, as far as the tile leaves registers.
        WgmmaMatmulSpec(512, 512, 1, "bf16", BIAS_RELU_RESIDUAL, "bf16", "f32", one.tile)
        for one in found
        if one.products == 1
        and (one.tile.columns, one.tile.cluster) in ((256, 1), (192, 1), (32, 1))
    ]
    found += [
        WgmmaMatmulSpec(512, 512, n, "bf16", BIAS_RELU_RESIDUAL, "f32", "f32", spec.start(n))
        for n in (1, 3, 6)
    ]
    return [*found, WgmmaMatmulSpec(512, 512, 1, "f16", GELU)]


@needs_compiler
@pytest.mark.parametrize("one", main_specs(), ids=str)
def test_no_register_is_spilled(one: WgmmaMatmulSpec) -> None:
    made = cubin(cuda.emit(one, SM_90A, "product"), "product", SM_90A)
    assert {r.entry for r in made.resources} >= {"product"}
    for found in made.resources:
        assert isinstance(found, Resources)
        assert (found.spill_stores, found.spill_loads, found.stack) == (0, 0, 0), found


@needs_compiler
def test_the_tensor_cores_multiply() -> None:
    if not disassembler():
        pytest.skip("no cuobjdump to look at machine code with")
    one = WgmmaMatmulSpec(512, 512, a="bf16", c="bf16", tile=Tile(128, 256, 4, 2))
    text = disassemble(cubin(cuda.emit(one, SM_90A, "product"), "product", SM_90A).code)
    # Four depths of 16 of a step, whole rows of 256 columns at once.
    assert text.count("HGMMA.64x256x16.F32.BF16") >= 4
    assert "UTMALDG" in text


def test_other_architectures_are_refused() -> None:
    assert not FAMILY.serves(lookup("sm_80"))
    with pytest.raises(ValueError, match="sm_80 has no wgmma"):
        cuda.emit(WgmmaMatmulSpec(64, 64), lookup("sm_80"), "product")


def test_a_tile_that_does_not_fit_is_refused() -> None:
    tile = Tile(128, 256, 5, 2)
    with pytest.raises(ValueError, match="bytes of shared memory"):
        cuda.emit(WgmmaMatmulSpec(64, 64, tile=tile), SM_90A, "product")
    with pytest.raises(ValueError, match="no tile of 96 x 128"):
        Tile(96, 128)
    with pytest.raises(ValueError, match="1 steps of K in 2 parts"):
        WgmmaMatmulSpec(64, 64, tile=Tile(split=2))


def test_variants_are_what_was_asked_for_with_other_tiles() -> None:
    first = WgmmaMatmulSpec(4096, 512, epilogue=GELU)
    found = tiles.variants(first, SM_90A)
    assert found[0] == first
    assert len(set(found)) == len(found)
    assert {replace(one, tile=first.tile) for one in found} == {first}
    for one in found:
        cuda.emit(one, SM_90A, "product")


def test_the_fastest_tile_fills_the_device() -> None:
    """Few rows and columns: small tiles and parts of K; many: large tiles, all of K at once."""
    few = tiles.fastest(WgmmaMatmulSpec(4096, 64, a="bf16", c="bf16"), 64, SM_90A).tile
    many = tiles.fastest(WgmmaMatmulSpec(4096, 8192, a="bf16", c="bf16"), 8192, SM_90A).tile
    assert few.split > 1
    assert few.rows * few.columns <= 64 * 64
    assert many.split == 1
    assert many.rows * many.columns >= 128 * 192


def test_formats_of_values() -> None:
    half = WgmmaMatmulSpec(64, 64, 1, "f16")
    assert spec.stored(half, ("bf16",), "f32") is None
    exact = WgmmaMatmulSpec(64, 64, 6, tile=spec.start(6))
    assert spec.stored(exact, ("bf16",), "f32") is None
    handed = spec.stored(WgmmaMatmulSpec(64, 64), ("bf16",), "bf16")
    assert handed is not None
    assert (handed.a, handed.c) == ("bf16", "bf16")


def test_a_constant_that_is_not_finite_as_f16_is_left_to_others() -> None:
    assert FAMILY.suits is not None
    assert FAMILY.suits(np.ones((2, 2), np.float32))
    for bad in (np.inf, np.nan, -7e4):
        assert not FAMILY.suits(np.array([[bad, 1.0]], np.float32))


@pytest.mark.parametrize(("element", "products"), spec.ACCURACY)
def test_error_is_of_the_class(element: str, products: int) -> None:
    """What is lost before any sum is made: tensor cores multiply exactly."""
    rng = np.random.default_rng(0)
    a = rng.standard_normal((32, 768)).astype(np.float32)
    b = rng.standard_normal((768, 48)).astype(np.float32)
    one = WgmmaMatmulSpec(768, 48, products, element, tile=spec.start(products))
    assert FAMILY.pack is not None
    (got,) = FAMILY.reference(one, (a, FAMILY.pack(b, one)), (32, 768, 48))
    exact = a.astype(np.float64) @ b.astype(np.float64)
    error = np.linalg.norm(got - exact) / np.linalg.norm(exact)
    assert 0 < error < (spec.accuracy(one) or 1e-7)

"""8-bit products on Hopper's tensor cores: code of every tile, refusals."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tilewright.backends.cuda.toolchain import tools
from tilewright.backends.kernels.int8_matmul import IntegerMatmulTask
from tilewright.backends.kernels.int8_matmul.cases import DEQUANTIZE, IDENTITY, REQUANTIZE
from tilewright.backends.kernels.wgmma_int8_matmul import FAMILY, WgmmaInt8MatmulSpec, cuda, spec
from tilewright.backends.target import lookup
from tilewright.tools.bench.gpu_kernels import cubin

SM_90A = lookup("sm_90a")
needs_compiler = pytest.mark.skipif(not all(tools()), reason="no CUDA compiler or assembler")


@needs_compiler
@pytest.mark.parametrize("tile", spec.TILES, ids=str)
@pytest.mark.parametrize(("a", "out"), [("s8", "f32"), ("f32_tensor", "u8")])
def test_no_register_is_spilled(a: str, out: str, tile: spec.Tile) -> None:
    epilogue = DEQUANTIZE if out == "f32" else REQUANTIZE
    one = WgmmaInt8MatmulSpec(512, 512, a, "s8", out, epilogue, tile)
    made = cubin(cuda.emit(one, SM_90A, "product"), "product", SM_90A)
    assert {r.entry for r in made.resources} == {"product", "product_convert"}
    for found in made.resources:
        assert (found.spill_stores, found.spill_loads, found.stack) == (0, 0, 0), found


def test_integer_products_are_answered_with_every_tile() -> None:
    task = IntegerMatmulTask(96, 512, "u8", "u8", "i32", IDENTITY)
    (first,) = spec.candidates(task, SM_90A)
    found = spec.variants(first, SM_90A)
    assert found[0] == first
    assert {one.tile for one in found} == {*spec.TILES}
    assert spec.candidates(replace(task, k=0), SM_90A) == ()


def test_what_there_is_not_is_refused() -> None:
    assert not FAMILY.serves(lookup("sm_80"))
    with pytest.raises(ValueError, match="sm_80 has no wgmma"):
        cuda.emit(WgmmaInt8MatmulSpec(64, 64), lookup("sm_80"), "product")
    with pytest.raises(ValueError, match="no 8-bit product of f32 and s8 as i32"):
        WgmmaInt8MatmulSpec(64, 64, "f32")
    with pytest.raises(ValueError, match="all of K at once"):
        WgmmaInt8MatmulSpec(640, 64, tile=replace(spec.TILES[0], split=2))

"""Products of 8-bit rows and columns on Hopper: code of every kind, codes of rows, refusals."""

from __future__ import annotations

import numpy as np
import pytest
from support.emulated_products import COMPILER, run_entry

from tilewright.backends.cuda import prelude
from tilewright.backends.cuda.toolchain import disassemble, to_both, tools
from tilewright.backends.kernels.candidates import candidates
from tilewright.backends.kernels.registry import family
from tilewright.backends.kernels.tasks import MatmulTask
from tilewright.backends.kernels.wgmma_matmul.spec import Tile
from tilewright.backends.kernels.wgmma_scaled_matmul.spec import (
    ELEMENTS,
    TILES,
    WgmmaScaledMatmulSpec,
)
from tilewright.backends.target import lookup
from tilewright.compiler.formats import named
from tilewright.compiler.formats.activations import Int8
from tilewright.compiler.formats.float8_rows import Float8Rows

FAMILY = family("wgmma_scaled_matmul")
HOPPER = lookup("sm_90a")
ACTIVATIONS = {"s8": Int8(), "e4m3": Float8Rows()}


def test_formats_read_rows_as_the_kernels_do() -> None:
    for form, element in ELEMENTS.items():
        assert named(form).activation == ACTIVATIONS[element]


@pytest.mark.parametrize("tile", [TILES[0], pytest.param(TILES[-1], marks=pytest.mark.slow)])
@pytest.mark.parametrize("form", ELEMENTS)
def test_products_are_those_of_warp_groups(form: str, tile: Tile) -> None:
    if not all(tools()):
        pytest.skip("no tool makes cubins here")
    assert FAMILY.cuda is not None
    spec = WgmmaScaledMatmulSpec(400, 520, form, a="bf16", c="bf16", tile=tile)
    text = prelude.expand(FAMILY.cuda(spec, HOPPER, "kernel").source)
    _, made = to_both(text, "kernel", HOPPER)
    assert len(made.resources) == 2
    assert not [r for r in made.resources if r.spill_stores or r.spill_loads or r.stack]
    machine = disassemble(made.code)
    if machine:
        assert {"s8": "IGMMA", "e4m3": "QGMMA"}[spec.element] in machine


@pytest.mark.skipif(COMPILER is None, reason="no g++")
@pytest.mark.parametrize("form", ELEMENTS)
def test_rows_become_the_codes_of_the_format(form: str) -> None:
    m, k, gap = 9, 300, 5
    rng = np.random.default_rng(0)
    a = (rng.standard_normal((m, k + gap)) * 10.0 ** rng.integers(-3, 4, (m, 1))).astype("f4")
    a[0, 5], a[1, 7], a[2], a[3], a[4, 299], a[5, 0] = np.nan, -np.inf, 0, 1e-40, 3e38, 2.0**-121
    a[5, 1:] = 0
    spec = WgmmaScaledMatmulSpec(k, 40, form)
    assert FAMILY.cuda is not None
    kernel = FAMILY.cuda(spec, HOPPER, "kernel")
    operands = (a, np.zeros(1), np.zeros(1))
    work = run_entry(kernel, "_rows", "constexpr float MOST", operands, (m, k + gap, 40))
    codes = work[: m * spec.row].reshape(m, spec.row)
    scales = work[m * spec.row :].view(np.float32)
    finite = np.isfinite(a[:, :k]).all(axis=1)
    assert np.isnan(scales[~finite]).all()
    assert not codes[:, k:].any()
    activation = ACTIVATIONS[spec.element]
    assert isinstance(activation, Int8 | Float8Rows)
    expected, steps = activation.quantize(a[finite, :k])
    np.testing.assert_array_equal(scales[finite], steps.reshape(-1))
    np.testing.assert_array_equal(
        codes[finite, :k].view(expected.dtype).astype("f4"), expected.astype("f4")
    )


def test_what_there_is_not_is_refused() -> None:
    with pytest.raises(ValueError, match="no 8-bit product for w4-g64: expected w8a8-sym, f8e4m3a"):
        WgmmaScaledMatmulSpec(64, 64, "w4-g64")
    with pytest.raises(ValueError, match="K and N must not be 0"):
        WgmmaScaledMatmulSpec(0, 64, "w8a8-sym")
    with pytest.raises(ValueError, match="no 8-bit product with scales by Tile"):
        WgmmaScaledMatmulSpec(64, 64, "w8a8-sym", tile=Tile(256, 128, 4, 2))
    assert FAMILY.cuda is not None
    with pytest.raises(ValueError, match="sm_80 has no wgmma"):
        FAMILY.cuda(WgmmaScaledMatmulSpec(64, 64, "w8a8-sym"), lookup("sm_80"), "kernel")


def test_it_is_asked_for_by_the_name_of_its_formats() -> None:
    task = MatmulTask(64, 96)
    for form in ELEMENTS:
        found = candidates(task, HOPPER, 1e-2, frozenset({form}))
        assert {c.format for c in found if c.family is FAMILY} == {form}
        assert not [c for c in candidates(task, HOPPER, 1e-2) if c.format == form]

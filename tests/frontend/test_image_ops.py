"""Importers of resizing, sampling and transforms against ONNX."""

from typing import Any

import numpy as np
import pytest
from support.onnx_nodes import check, model_of, op_names, rand, run_both

from tilewright.compiler.errors import UserError
from tilewright.compiler.frontend.load import load_onnx

RESIZES = [
    {"mode": "nearest"},
    {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"},
    {"mode": "nearest", "nearest_mode": "ceil", "coordinate_transformation_mode": "align_corners"},
    {"mode": "linear"},
    {"mode": "linear", "coordinate_transformation_mode": "align_corners"},
    {"mode": "linear", "coordinate_transformation_mode": "half_pixel_symmetric"},
    {"mode": "linear", "antialias": 1},
    {"mode": "cubic"},
    {"mode": "cubic", "exclude_outside": 1, "cubic_coeff_a": -0.5},
    {"mode": "cubic", "antialias": 1},
]


@pytest.mark.parametrize("attributes", RESIZES)
@pytest.mark.parametrize("factor", [0.6, 1.5, 2.0])
def test_resize_by_scales(attributes: dict[str, Any], factor: float) -> None:
    scales = np.array([1, 1, factor, factor], np.float32)
    check("Resize", [rand(1, 2, 5, 6), None, scales], constants=(2,), **attributes)


@pytest.mark.parametrize("attributes", [r for r in RESIZES if "antialias" not in r])
def test_resize_to_sizes_of_a_symbolic_image(attributes: dict[str, Any]) -> None:
    sizes = np.array([4, 7], np.int64)
    inputs = [rand(1, 2, 5, 6), None, None, sizes]
    check("Resize", inputs, constants=(3,), symbolic=True, axes=[2, 3], **attributes)


def test_whole_nearest_scales_repeat_instead_of_gathering() -> None:
    inputs = [rand(1, 2, 3, 4), None, np.array([1, 1, 2, 3], np.float32)]
    graph = load_onnx(model_of("Resize", inputs, constants=(2,), symbolic=True))
    assert "gather" not in op_names(graph)
    check("Resize", inputs, constants=(2,), symbolic=True)


@pytest.mark.parametrize("mode", ["linear", "nearest", "cubic"])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("corners", [0, 1])
def test_grid_sample(mode: str, padding: str, corners: int) -> None:
    x, grid = rand(2, 3, 5, 6), rand(2, 4, 4, 2) * 1.2
    options = {"mode": mode, "padding_mode": padding, "align_corners": corners}
    check("GridSample", [x, grid], rtol=1e-3, atol=1e-4, **options)


def test_affine_grid() -> None:
    sizes = np.array([2, 3, 4, 5], np.int64)
    check("AffineGrid", [rand(2, 2, 3), sizes], constants=(1,), align_corners=1)


@pytest.mark.parametrize("masked", [False, True])
def test_deform_conv(masked: bool) -> None:
    x, w, offset = rand(1, 4, 5, 5), rand(2, 2, 2, 2), rand(1, 16, 4, 4)
    mask = np.abs(rand(1, 8, 4, 4)) if masked else None
    options = {"group": 2, "offset_group": 2, "kernel_shape": [2, 2]}
    check("DeformConv", [x, w, offset, rand(2), mask], atol=1e-4, **options)


def test_col2im() -> None:
    inputs = [rand(1, 2 * 4, 9), np.array([6, 6], np.int64), np.array([2, 2], np.int64)]
    check("Col2Im", inputs, constants=(1, 2), strides=[2, 2])


@pytest.mark.parametrize("inverse", [0, 1])
@pytest.mark.parametrize("onesided", [0, 1])
def test_dft(inverse: int, onesided: int) -> None:
    if onesided:
        x = rand(2, 6, 2) if inverse else rand(2, 10, 1)
    else:
        x = rand(2, 10, 2)
    axis = np.array(1, np.int64)
    inputs = [x, None, axis]
    check("DFT", inputs, constants=(2,), opset=20, inverse=inverse, onesided=onesided, atol=1e-4)


def test_stft_is_one_convolution() -> None:
    x, step, window = rand(1, 64, 1), np.array(8, np.int64), np.abs(rand(16))
    inputs, options = [x, step, window], {"constants": (1, 2), "opset": 17, "onesided": 1}
    check("STFT", inputs, atol=1e-4, **options)
    assert "conv" in op_names(load_onnx(model_of("STFT", inputs, **options)))


def test_mel_weight_matrix() -> None:
    values = [np.array(v) for v in (8, 64, 16000)]
    edges = [np.array(v, np.float32) for v in (0.0, 8000.0)]
    inputs = [*(v.astype(np.int64) for v in values), *edges]
    (found,), (expected,) = run_both("MelWeightMatrix", inputs, constants=tuple(range(5)), opset=17)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_scales_that_only_the_run_knows_are_refused_without_a_declared_shape() -> None:
    inputs = [rand(1, 1, 2, 2), None, np.ones(4, np.float32)]
    with pytest.raises(UserError, match="scales are known only at run time"):
        load_onnx(model_of("Resize", inputs))

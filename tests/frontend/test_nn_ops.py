"""Importers of convolutions, pools, normalizations and quantization against ONNX."""

from typing import Any

import numpy as np
import pytest
from onnx.reference import ReferenceEvaluator
from support.onnx_nodes import check, model_of, op_names, rand, run_both

from tilewright.backends import reference
from tilewright.compiler.errors import UserError
from tilewright.compiler.frontend.load import load_onnx


@pytest.mark.parametrize("symbolic", [False, True])
@pytest.mark.parametrize(
    ("spatial", "attributes"),
    [
        ((9,), {"pads": [1, 1]}),
        ((9, 8), {"pads": [1, 0, 2, 1], "strides": [2, 1]}),
        ((9, 8), {"dilations": [2, 1], "group": 2}),
        ((9, 8), {"auto_pad": "SAME_UPPER", "strides": [2, 3]}),
        ((9, 8), {"auto_pad": "SAME_LOWER", "strides": [2, 2]}),
        ((9, 8), {"auto_pad": "VALID"}),
        ((5, 6, 7), {"pads": [1] * 6}),
    ],
)
def test_conv(spatial: tuple[int, ...], attributes: dict[str, Any], symbolic: bool) -> None:
    group = attributes.get("group", 1)
    x, w, b = rand(2, 4, *spatial), rand(6, 4 // group, *(3,) * len(spatial)), rand(6)
    if symbolic:
        x_model = model_of("Conv", [x, w, b], (1, 2), **attributes)
        for axis in (0, *range(2, x.ndim)):
            x_model.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = f"d{axis}"
        found = reference.run(load_onnx(x_model), [x])
        expected = ReferenceEvaluator(x_model).run(None, {"x0": x})
        np.testing.assert_allclose(found[0], expected[0], rtol=2e-4, atol=2e-5)
    else:
        check("Conv", [x, w, b], constants=(1, 2), **attributes)


def test_conv_with_weights_that_are_computed() -> None:
    check("Conv", [rand(1, 3, 5, 5), rand(2, 3, 3, 3), rand(2)])


@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"strides": [2, 2]},
        {"strides": [2, 3], "pads": [1, 1, 0, 1], "output_padding": [1, 0]},
        {"dilations": [2, 1]},
        {"strides": [3, 2], "auto_pad": "SAME_UPPER"},
        {"strides": [2, 2], "output_shape": [9, 11]},
    ],
)
@pytest.mark.parametrize("constant", [False, True])
def test_conv_transpose(attributes: dict[str, Any], constant: bool) -> None:
    x, w, b = rand(1, 4, 4, 5), rand(4, 3, 3, 3), rand(3)
    check("ConvTranspose", [x, w, b], constants=(1, 2) if constant else (), **attributes)


@pytest.mark.parametrize("constant", [False, True])
def test_conv_transpose_in_groups(constant: bool) -> None:
    x, w = rand(1, 4, 4, 5), rand(4, 3, 3, 3)
    chosen = (1,) if constant else ()
    model = model_of("ConvTranspose", [x, w], chosen, group=2, strides=[2, 1])
    (found,) = reference.run(load_onnx(model), [x] if constant else [x, w])
    halves = [
        ReferenceEvaluator(model_of("ConvTranspose", [p, q], strides=[2, 1])).run(
            None, {"x0": p, "x1": q}
        )[0]
        for p, q in zip(np.split(x, 2, 1), np.split(w, 2, 0), strict=True)
    ]
    np.testing.assert_allclose(found, np.concatenate(halves, 1), rtol=2e-4, atol=2e-5)


def test_conv_transpose_without_overlap_is_one_contraction() -> None:
    inputs = [rand(2, 4, 3, 5), rand(4, 3, 2, 2), rand(3)]
    options = {"constants": (1, 2), "strides": [2, 2]}
    check("ConvTranspose", inputs, **options)
    names = op_names(load_onnx(model_of("ConvTranspose", inputs, **options)))
    assert "contract" in names
    assert "conv" not in names


@pytest.mark.parametrize("op", ["MaxPool", "AveragePool", "LpPool"])
@pytest.mark.parametrize(
    "attributes",
    [
        {"kernel_shape": [3, 2], "strides": [2, 2], "pads": [1, 0, 1, 1]},
        {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_UPPER"},
        {"kernel_shape": [2, 2], "strides": [2, 2]},
    ],
)
def test_pools(op: str, attributes: dict[str, Any]) -> None:
    check(op, [rand(2, 3, 7, 8)], **attributes)


@pytest.mark.parametrize("op", ["MaxPool", "AveragePool"])
def test_same_padding_of_symbolic_images(op: str) -> None:
    attributes = {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_LOWER"}
    for size in (6, 7):
        x = rand(1, 2, size, size + 1)
        known, unknown = (model_of(op, [x], symbolic=s, **attributes) for s in (False, True))
        (expected,) = reference.run(load_onnx(known), [x])
        (found,) = reference.run(load_onnx(unknown), [x])
        assert found.shape[2:] == ((size + 1) // 2, (size + 2) // 2)
        np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_max_pool_in_ceil_mode_skips_windows_in_the_padding() -> None:
    check("MaxPool", [rand(1, 1, 2, 2)], kernel_shape=[1, 1], strides=[2, 2], ceil_mode=1)


def test_max_pool_indices() -> None:
    x = rand(2, 3, 6, 6)
    check("MaxPool", [x], outputs=2, kernel_shape=[2, 2], strides=[2, 2])


@pytest.mark.parametrize("op", ["GlobalAveragePool", "GlobalMaxPool"])
def test_global_pools(op: str) -> None:
    check(op, [rand(2, 3, 4, 5)], symbolic=True)


def test_batch_normalization_folds_known_parameters() -> None:
    x, parameters = rand(2, 3, 4, 4), [rand(3, seed=i) for i in range(3)]
    inputs = [x, *parameters, np.abs(rand(3, seed=9))]
    check("BatchNormalization", inputs, constants=(1, 2, 3, 4))
    check("BatchNormalization", inputs)
    graph = load_onnx(model_of("BatchNormalization", inputs, constants=(1, 2, 3, 4)))
    assert op_names(graph) == {"constant", "reshape", "mul", "add"}


@pytest.mark.parametrize("axis", [-1, 1])
def test_layer_normalization(axis: int) -> None:
    shape = (2, 3, 5)
    tail = shape[axis:]
    inputs = [rand(*shape), rand(*tail), rand(*tail, seed=1)]
    check("LayerNormalization", inputs, outputs=3, axis=axis, epsilon=1e-3)


def test_instance_and_group_normalization() -> None:
    x = rand(2, 4, 3, 3)
    check("InstanceNormalization", [x, rand(4), rand(4, seed=1)], symbolic=False)
    check("GroupNormalization", [x, rand(4), rand(4, seed=1)], num_groups=2)


@pytest.mark.parametrize("opset", [11, 13])
@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax", "Hardmax"])
def test_softmax_family(op: str, opset: int) -> None:
    x = rand(2, 3, 4)
    if opset == 13:
        check(op, [x], opset=opset, axis=1)
        return
    flat = x.reshape(2, 12)
    (found,), _ = run_both(op, [x], opset=opset, axis=1)
    (expected,), _ = run_both(op, [flat], opset=13, axis=1)
    np.testing.assert_array_equal(found, expected.reshape(x.shape))


@pytest.mark.parametrize("axis", [0, 1])
def test_quantization_round_trip(axis: int) -> None:
    x, size = rand(4, 6) * 10, (4, 6)[axis]
    scale = np.linspace(0.01, 0.3, size, dtype=np.float32)
    zero = np.arange(size, dtype=np.uint8)
    check("QuantizeLinear", [x, scale, zero], atol=0, axis=axis)
    q = np.arange(24, dtype=np.uint8).reshape(4, 6)
    check("DequantizeLinear", [q, scale, zero], atol=0, axis=axis)


def test_blocked_dequantization_of_an_uneven_axis() -> None:
    q = np.arange(-7, 7, dtype=np.int8).reshape(2, 7)
    scale = np.array([[0.5, 1, 2], [3, 4, 5]], np.float32)
    zero = np.array([[1, 0, 2], [0, 1, 0]], np.int8)
    model = model_of("DequantizeLinear", [q, scale, zero], axis=1, block_size=3)
    (found,) = reference.run(load_onnx(model), [q, scale, zero])
    wide = [np.repeat(p, 3, 1)[:, :7].astype(np.float32) for p in (zero, scale)]
    np.testing.assert_array_equal(found, (q - wide[0]) * wide[1])


def test_convolution_with_an_unknown_kernel_size_is_refused() -> None:
    inputs = [rand(1, 3, 5, 5), rand(2, 3, 3, 3)]
    with pytest.raises(UserError, match=r"the kernel size .* must be known"):
        load_onnx(model_of("Conv", inputs, symbolic=True))


def test_element_types_of_a_half_precision_convolution() -> None:
    inputs = [rand(1, 3, 5, 5).astype(np.float16), rand(2, 3, 3, 3).astype(np.float16)]
    check("Conv", inputs, constants=(1,), rtol=1e-2, atol=1e-2)
    assert load_onnx(model_of("Conv", inputs)).outputs[0].dtype.numpy == np.float16

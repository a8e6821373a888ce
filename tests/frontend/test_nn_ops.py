"""Importers of neural network operators against the ONNX reference, with known and symbolic sizes."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from tilewright.backends import reference
from tilewright.compiler.errors import UserError
from tilewright.compiler.frontend.load import load_onnx
from tilewright.compiler.ir.core import Graph, walk

Arrays = Sequence[np.ndarray | None]


def model_of(
    op: str,
    inputs: Arrays,
    constants: Sequence[int] = (),
    symbolic: bool = False,
    outputs: int = 1,
    opset: int = 22,
    **attributes: Any,
) -> onnx.ModelProto:
    """A model of one node; the inputs at `constants` are initializers.

    With `symbolic` every other dimension of the inputs has a name of its own.
    """
    names = ["" if x is None else f"x{i}" for i, x in enumerate(inputs)]
    node = helper.make_node(op, names, [f"y{i}" for i in range(outputs)], **attributes)
    graph_inputs, initializers = [], []
    for i, (name, x) in enumerate(zip(names, inputs, strict=True)):
        if x is None:
            continue
        if i in constants:
            initializers.append(onnx.numpy_helper.from_array(x, name))
            continue
        kind = helper.np_dtype_to_tensor_dtype(x.dtype)
        dims = [f"{name}_{axis}" if symbolic else d for axis, d in enumerate(x.shape)]
        graph_inputs.append(helper.make_tensor_value_info(name, kind, dims))
    results = [helper.make_empty_tensor_value_info(f"y{i}") for i in range(outputs)]
    graph = helper.make_graph([node], "g", graph_inputs, results, initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def run_both(op: str, inputs: Arrays, **options: Any) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """What we compute and what ONNX's reference computes."""
    model = model_of(op, inputs, **options)
    constants = options.get("constants", ())
    feeds = {f"x{i}": x for i, x in enumerate(inputs) if x is not None and i not in constants}
    found = reference.run(load_onnx(model), list(feeds.values()))
    expected = ReferenceEvaluator(model).run(None, feeds)
    return list(found), [np.asarray(e) for e in expected]


def check(op: str, inputs: Arrays, rtol: float = 2e-4, atol: float = 2e-5, **options: Any) -> None:
    for found, expected in zip(*run_both(op, inputs, **options), strict=True):
        assert found.shape == expected.shape
        assert found.dtype == expected.dtype
        np.testing.assert_allclose(found, expected, rtol=rtol, atol=atol)


def rand(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


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


def op_names(graph: Graph) -> set[str]:
    return {op.opname for op in walk(graph.ops)}


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


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("layout", [0, 1])
@pytest.mark.parametrize(("op", "gates"), [("LSTM", 4), ("GRU", 3), ("RNN", 1)])
def test_recurrent(op: str, gates: int, layout: int, direction: str) -> None:
    count = 2 if direction == "bidirectional" else 1
    x = rand(2, 5, 3) if layout else rand(5, 2, 3)
    state = rand(2, count, 4) if layout else rand(count, 2, 4)
    inputs = [x, rand(count, gates * 4, 3), rand(count, gates * 4, 4), rand(count, gates * 8)]
    inputs += [None, state]
    options: dict[str, Any] = {"hidden_size": 4, "direction": direction, "layout": layout}
    if op == "GRU":
        options["linear_before_reset"] = 1
    check(op, inputs, constants=(1, 2, 3), outputs=2, **options)


def lstm_by_hand(x: np.ndarray, w: np.ndarray, r: np.ndarray, lengths: Sequence[int]) -> np.ndarray:
    """A reversed LSTM with clipping of the gates, one sequence at a time: Y [S, 1, B, H]."""
    steps, batch, _ = x.shape
    hidden = r.shape[2]
    out = np.zeros((steps, 1, batch, hidden), np.float32)
    for b in range(batch):
        h, c = np.zeros(hidden), np.zeros(hidden)
        for t in reversed(range(lengths[b])):
            gates = np.clip(x[t, b] @ w[0].T + h @ r[0].T, -0.5, 0.5)
            i, o, f, g = np.split(gates, 4)
            i, o, f = (1 / (1 + np.exp(-v)) for v in (i, o, f))
            c = f * c + i * np.tanh(g)
            h = o * np.tanh(c)
            out[t, 0, b] = h
    return out


def test_lstm_with_lengths_and_clip() -> None:
    x, w, r = rand(5, 3, 2), rand(1, 16, 2), rand(1, 16, 4)
    lengths = np.array([5, 2, 3], np.int32)
    model = model_of(
        "LSTM", [x, w, r, None, lengths], (1, 2), hidden_size=4, direction="reverse", clip=0.5
    )
    (found,) = reference.run(load_onnx(model), [x, lengths])
    expected = lstm_by_hand(x, w, r, lengths)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_rnn_activations_take_their_parameters_in_order() -> None:
    x, w, r = rand(1, 2, 3), rand(2, 4, 3), rand(2, 4, 4)
    model = model_of(
        "RNN",
        [x, w, r],
        (1, 2),
        hidden_size=4,
        direction="bidirectional",
        activations=["LeakyRelu", "Affine"],
        activation_alpha=[0.5, 2.0],
        activation_beta=[1.0],
    )
    (found,) = reference.run(load_onnx(model), [x])
    forward, backward = (np.einsum("sbi,hi->sbh", x, w[i]) for i in range(2))
    expected = np.stack([np.where(forward >= 0, forward, forward / 2), 2 * backward + 1], 1)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_an_unknown_activation_is_refused() -> None:
    inputs = [rand(1, 2, 3), rand(1, 4, 3), rand(1, 4, 4)]
    model = model_of("RNN", inputs, (1, 2), hidden_size=4, activations=["Gauss"])
    with pytest.raises(UserError, match="activation 'Gauss' is unknown"):
        load_onnx(model)


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


@pytest.mark.parametrize("attributes", RESIZES)
def test_resize_to_sizes_of_a_symbolic_image(attributes: dict[str, Any]) -> None:
    if attributes.get("antialias"):
        pytest.skip("the number of taps needs a known scale")
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


@pytest.mark.parametrize("causal", [0, 1])
@pytest.mark.parametrize("softcap", [0.0, 2.0])
@pytest.mark.parametrize("mask", ["none", "bool", "float"])
def test_attention_with_grouped_heads_and_cache(causal: int, softcap: float, mask: str) -> None:
    q, k, v = rand(2, 4, 3, 8), rand(2, 2, 3, 8), rand(2, 2, 3, 8, seed=1)
    past = [rand(2, 2, 2, 8, seed=2), rand(2, 2, 2, 8, seed=3)]
    allowed = rand(3, 5, seed=4) > -0.5
    masks = {"none": None, "bool": allowed, "float": np.where(allowed, rand(3, 5), -np.inf)}
    given = masks[mask]
    given = given.astype(np.float32) if mask == "float" else given
    options = {"is_causal": causal, "softcap": softcap, "outputs": 3, "opset": 24}
    check("Attention", [q, k, v, given, *past], **options)


def test_attention_becomes_one_operation() -> None:
    inputs = [rand(2, 3, 8), rand(2, 5, 8), rand(2, 5, 8)]
    options = {"q_num_heads": 2, "kv_num_heads": 2, "opset": 23}
    names = op_names(load_onnx(model_of("Attention", inputs, **options)))
    assert names == {"reshape", "attention"}
    check("Attention", inputs, **options)


@pytest.mark.parametrize("interleaved", [0, 1])
@pytest.mark.parametrize("rotated", [0, 4])
def test_rotary_embedding(interleaved: int, rotated: int) -> None:
    x, ids = rand(2, 3, 16), np.array([[0, 1, 2], [4, 3, 1]], np.int64)
    half = (rotated or 8) // 2
    inputs = [x, rand(6, half), rand(6, half, seed=1), ids]
    options = {"interleaved": interleaved, "rotary_embedding_dim": rotated, "num_heads": 2}
    check("RotaryEmbedding", inputs, opset=23, **options)


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


def test_convolution_with_an_unknown_kernel_size_is_refused() -> None:
    inputs = [rand(1, 3, 5, 5), rand(2, 3, 3, 3)]
    with pytest.raises(UserError, match="the kernel size .* must be known"):
        load_onnx(model_of("Conv", inputs, symbolic=True))


def test_scales_that_only_the_run_knows_are_refused_without_a_declared_shape() -> None:
    inputs = [rand(1, 1, 2, 2), None, np.ones(4, np.float32)]
    with pytest.raises(UserError, match="scales are known only at run time"):
        load_onnx(model_of("Resize", inputs))


def test_element_types_of_a_half_precision_convolution() -> None:
    inputs = [rand(1, 3, 5, 5).astype(np.float16), rand(2, 3, 3, 3).astype(np.float16)]
    check("Conv", inputs, constants=(1,), rtol=1e-2, atol=1e-2)
    assert load_onnx(model_of("Conv", inputs)).outputs[0].dtype.numpy == np.float16
    assert TensorProto.FLOAT16 == helper.np_dtype_to_tensor_dtype(np.dtype(np.float16))

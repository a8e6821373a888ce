"""Operators of quantized models beside ONNX Runtime; products of bytes stay products of bytes."""

import numpy as np
import onnxruntime
import pytest
from onnx import ModelProto, helper, numpy_helper

from tilewright.backends.reference import run
from tilewright.compiler.frontend.load import load_onnx
from tilewright.compiler.ir.core import Graph
from tilewright.compiler.ir.ops.contraction import Contract, Conv
from tilewright.compiler.ir.ops.reduce import Reduce
from tilewright.compiler.ir.ops.shape import Gather, Pad
from tilewright.compiler.ir.types import DType

RNG = np.random.default_rng(3)
SMALL = (DType.I8, DType.U8)


def model_of(nodes, inputs, constants) -> ModelProto:
    """`y` of `nodes`; inputs: name -> array, constants likewise."""
    kinds = {k: helper.np_dtype_to_tensor_dtype(v.dtype) for k, v in inputs.items()}
    given = [helper.make_tensor_value_info(k, kinds[k], v.shape) for k, v in inputs.items()]
    stored = [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()]
    result = helper.make_empty_tensor_value_info("y")
    graph = helper.make_graph(nodes, "g", given, [result], stored)
    domains = [helper.make_opsetid("", 19), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=domains, ir_version=10)


def both(model: ModelProto, inputs) -> tuple[Graph, np.ndarray, np.ndarray]:
    """Our graph, its result, and ONNX Runtime's without any of its own rewriting."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    peer = onnxruntime.InferenceSession(model.SerializeToString(), options)
    graph = load_onnx(model)
    (found,) = run(graph, inputs)
    return graph, found, peer.run(None, inputs)[0]


def bytes_of(kind: type, *shape: int) -> np.ndarray:
    limits = np.iinfo(kind)
    return RNG.integers(limits.min, limits.max, shape, kind, endpoint=True)


def quantized_input() -> list:
    """`a` = dequantized quantized `x`."""
    quantize = helper.make_node("QuantizeLinear", ["x", "xs", "xz"], ["q"])
    return [quantize, helper.make_node("DequantizeLinear", ["q", "xs", "xz"], ["a"])]


WEIGHTS = {
    "i8": (bytes_of(np.int8, 70, 9), np.float32(0.02), np.int8(0)),
    "u8": (bytes_of(np.uint8, 70, 9), np.float32(0.02), np.uint8(131)),
    "columns": (
        bytes_of(np.int8, 70, 9),
        RNG.random(9).astype(np.float32),
        bytes_of(np.int8, 9),
    ),
}


@pytest.mark.parametrize("name", WEIGHTS)
@pytest.mark.parametrize("op", ["MatMul", "Gemm", "transposed Gemm"])
def test_products_between_dequantize_nodes(op: str, name: str) -> None:
    w, scale, zero = WEIGHTS[name]
    turned = op.startswith("transposed")
    attributes = {"transB": 1} if turned else {}
    axis = {"axis": 0 if turned else 1} if scale.ndim else {}
    nodes = [
        *quantized_input(),
        helper.make_node("DequantizeLinear", ["w", "ws", "wz"], ["b"], **axis),
        helper.make_node(op.split()[-1], ["a", "b"], ["y"], **attributes),
    ]
    constants = {"xs": np.float32(0.03), "xz": np.uint8(120), "ws": scale, "wz": zero}
    constants["w"] = np.ascontiguousarray(w.T) if turned else w
    inputs = {"x": RNG.standard_normal((5, 70)).astype(np.float32)}
    graph, found, want = both(model_of(nodes, inputs, constants), inputs)
    (product,) = [o for o in graph.ops if isinstance(o, Contract)]
    assert product.a.dtype in SMALL
    assert product.b.dtype in SMALL
    np.testing.assert_allclose(found, want, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("groups", [1, 2, 8])
@pytest.mark.parametrize("per_channel", [False, True])
def test_convolutions_between_dequantize_nodes(groups: int, per_channel: bool) -> None:
    w = bytes_of(np.int8, 16, 8 // groups, 3, 3)
    scale = RNG.random(16).astype(np.float32) if per_channel else np.float32(0.1)
    zero = np.zeros(np.shape(scale), np.int8)
    nodes = [
        *quantized_input(),
        helper.make_node("DequantizeLinear", ["w", "ws", "wz"], ["b"], axis=0),
        helper.make_node("Conv", ["a", "b", "c"], ["y"], group=groups, pads=[1, 1, 1, 1]),
    ]
    constants = {"xs": np.float32(0.03), "xz": np.uint8(120), "w": w, "ws": scale, "wz": zero}
    constants["c"] = RNG.standard_normal(16).astype(np.float32)
    inputs = {"x": RNG.standard_normal((1, 8, 6, 5)).astype(np.float32)}
    graph, found, want = both(model_of(nodes, inputs, constants), inputs)
    (product,) = [o for o in graph.ops if isinstance(o, Conv)]
    assert product.x.dtype in SMALL
    assert not any(isinstance(o, Pad) for o in graph.ops)
    np.testing.assert_allclose(found, want, rtol=1e-5, atol=1e-4)


def test_sums_that_could_overflow_stay_float() -> None:
    w = bytes_of(np.int8, 33026, 1)
    nodes = [
        *quantized_input(),
        helper.make_node("DequantizeLinear", ["w", "xs"], ["b"]),
        helper.make_node("MatMul", ["a", "b"], ["y"]),
    ]
    constants = {"xs": np.float32(0.03), "xz": np.uint8(120), "w": w}
    inputs = {"x": RNG.standard_normal((1, 33026)).astype(np.float32)}
    graph = load_onnx(model_of(nodes, inputs, constants))
    assert [o.a.dtype for o in graph.ops if isinstance(o, Contract)] == [DType.F32]


def test_a_quantized_table_is_looked_up_before_it_is_dequantized() -> None:
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "s", "z"], ["table"]),
        helper.make_node("Gather", ["table", "i"], ["y"]),
    ]
    constants = {"w": bytes_of(np.uint8, 40, 6), "s": np.float32(0.1), "z": np.uint8(100)}
    inputs = {"i": np.array([[3, -1], [0, 39]], np.int64)}
    graph, found, want = both(model_of(nodes, inputs, constants), inputs)
    (gather,) = [o for o in graph.ops if isinstance(o, Gather)]
    assert gather.x.dtype == DType.U8
    np.testing.assert_array_equal(found, want)


def test_column_sums_are_known_at_import() -> None:
    inputs = {"x": bytes_of(np.uint8, 3, 512), "z": np.array(7, np.uint8)}
    nodes = [helper.make_node("MatMulInteger", ["x", "w", "z"], ["y"])]
    model = model_of(nodes, inputs, {"w": bytes_of(np.int8, 512, 300)})
    graph, found, want = both(model, inputs)
    assert not any(isinstance(o, Reduce) for o in graph.ops)
    np.testing.assert_array_equal(found, want)


S, T = np.float32(0.04), np.float32(0.1)


@pytest.mark.parametrize(
    ("op", "inputs", "attributes"),
    [
        ("QLinearAdd", ["x", "s", "z", "b", "t", "z", "t", "z"], {}),
        ("QLinearMul", ["x", "s", "z", "b", "t", "z", "t", "z"], {}),
        ("QLinearSigmoid", ["x", "s", "z", "u", "0"], {}),
        ("QLinearSoftmax", ["x", "s", "z", "u", "0"], {"axis": -1, "opset": 13}),
        ("QLinearGlobalAveragePool", ["x", "s", "z", "t", "z"], {"channels_last": 0}),
        ("QGemm", ["m", "s", "z", "w", "ws", "wz", "c", "t", "z"], {"transB": 1}),
        ("QGemm", ["m", "s", "z", "w", "ws", "wz", "c"], {"transB": 1, "alpha": 1.0}),
    ],
)
def test_operators_of_onnxruntime(op: str, inputs: list[str], attributes: dict) -> None:
    constants = {
        "b": bytes_of(np.uint8, 2, 3, 4, 5), "s": S, "t": T, "z": np.uint8(117),
        "u": np.float32(1 / 256), "0": np.uint8(0), "w": bytes_of(np.int8, 6, 30),
        "ws": RNG.random(6).astype(np.float32), "wz": np.zeros(6, np.int8),
        "c": RNG.integers(-9999, 9999, 6).astype(np.int32),
    }  # fmt: skip
    first = inputs[0]
    given = {first: bytes_of(np.uint8, *((4, 30) if first == "m" else (2, 3, 4, 5)))}
    node = helper.make_node(op, inputs, ["y"], domain="com.microsoft", **attributes)
    used = {k: v for k, v in constants.items() if k in inputs}
    _, found, want = both(model_of([node], given, used), given)
    assert found.dtype == want.dtype
    assert found.shape == want.shape
    # ONNX Runtime rounds the quotients of scales first: results next to a half may differ by one.
    step = 1 if found.dtype == np.uint8 else 1e-5 * float(np.abs(want).max())
    assert np.abs(found.astype(np.float64) - want).max() <= step

"""A small net with two products a layer, and samples of its input, for error contracts."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

WIDTH = 96


def layered_model(depth: int = 2, width: int = WIDTH, gain: float = 0.15) -> onnx.ModelProto:
    """y f32[n, width] of x: `depth` residual layers with nodes up0, down0, up1, ... of 128 hidden
    channels; the weights of the last down are 5 times as large."""
    random = np.random.default_rng(3)
    nodes, weights, at = [], {}, "x"
    for i in range(depth):
        scale = gain * (5 if i == depth - 1 else 1)
        weights[f"u{i}"] = (random.standard_normal((width, 128)) * gain).astype(np.float32)
        weights[f"d{i}"] = (random.standard_normal((128, width)) * scale).astype(np.float32)
        out = "y" if i == depth - 1 else f"x{i}"
        nodes += [
            helper.make_node("MatMul", [at, f"u{i}"], [f"h{i}"], name=f"up{i}"),
            helper.make_node("Tanh", [f"h{i}"], [f"t{i}"], name=f"tanh{i}"),
            helper.make_node("MatMul", [f"t{i}", f"d{i}"], [f"s{i}"], name=f"down{i}"),
            helper.make_node("Add", [at, f"s{i}"], [out], name=f"add{i}"),
        ]
        at = out
    graph = helper.make_graph(
        nodes,
        "layers",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", width])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", width])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def layered_samples(count: int = 8, rows: int = 40, width: int = WIDTH) -> np.ndarray:
    """x f32[count, rows, width] with channels of different sizes."""
    random = np.random.default_rng(4)
    scale = np.exp(random.standard_normal(width))
    return (random.standard_normal((count, rows, width)) * scale).astype(np.float32)

"""MatMulNBits, GatherBlockQuantized and blocked DequantizeLinear beside ONNX Runtime."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper
from support.compiled_graph import build, run_artifact

from tilewright.backends.kernels.coded_matmul import CodedMatmulTask
from tilewright.backends.reference import evaluate_op, run
from tilewright.backends.target import TARGETS, runs_here
from tilewright.compiler.errors import UserError
from tilewright.compiler.frontend.blocks import packed
from tilewright.compiler.frontend.load import load_onnx
from tilewright.compiler.ir.core import Graph
from tilewright.passes.pipelines import PIPELINES, run_pipeline

MS = "com.microsoft"
SHAPES = [(bits, block, k) for bits in (2, 4, 8) for block, k in ((16, 40), (32, 32), (64, 100))]
SHAPES += [(4, 128, 300), (8, 256, 256), (4, 32, 7)]
TARGET = next(t for t in reversed(TARGETS.values()) if t.name.startswith("x86") and runs_here(t))


def model_of(nodes, inputs, constants, dims=None) -> ModelProto:
    """`y` of `nodes`; inputs: name -> array, constants likewise."""
    kinds = {k: helper.np_dtype_to_tensor_dtype(v.dtype) for k, v in inputs.items()}
    given = [
        helper.make_tensor_value_info(k, kinds[k], (dims or {}).get(k, v.shape))
        for k, v in inputs.items()
    ]
    stored = [
        v if isinstance(v, TensorProto) else numpy_helper.from_array(np.asarray(v), k)
        for k, v in constants.items()
    ]
    graph = helper.make_graph(nodes, "g", given, [helper.make_empty_tensor_value_info("y")], stored)
    domains = [helper.make_opsetid("", 21), helper.make_opsetid(MS, 1)]
    return helper.make_model(graph, opset_imports=domains, ir_version=10)


def by_onnxruntime(model: ModelProto, inputs) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(model.SerializeToString(), options).run(None, inputs)[0]


def random(bits: int, block: int, k: int, n: int, zeros: str, dtype=np.float32):
    """Constants of a MatMulNBits node and the matrix f64 [K, N] that they stand for."""
    rng = np.random.default_rng([bits, block, k, n])
    groups = -(-k // block)
    codes = rng.integers(0, 2**bits, (n, groups * block)).astype(np.uint8)
    scales = rng.uniform(0.01, 0.1, (n, groups)).astype(dtype)
    points = np.full((n, groups), 2 ** (bits - 1), np.float64)
    found = {"B": packed(codes, bits).reshape(n, groups, -1), "s": scales}
    if zeros == "integers":
        points = rng.integers(0, 2**bits, points.shape).astype(np.float64)
        filled = np.zeros((n, -(-groups * bits // 8) * (8 // bits)), np.uint8)
        filled[:, :groups] = points
        found["z"] = packed(filled, bits)
    elif zeros == "floats":
        found["z"] = rng.uniform(0, 2**bits, points.shape).astype(dtype)
        points = found["z"].astype(np.float64)
    wide = [np.repeat(x.astype(np.float64), block, 1)[:, :k] for x in (points, scales)]
    return found, ((codes[:, :k] - wide[0]) * wide[1]).T


def nbits(bits, block, k, n, constants, bias=False, level=0, **more):
    names = ["x", "B", "s", "z" if "z" in constants else "", "", "b" if bias else ""]
    while not names[-1]:
        names.pop()
    return helper.make_node(
        "MatMulNBits", names, ["y"], name="product", domain=MS, K=k, N=n, bits=bits,
        block_size=block, accuracy_level=level, **more,
    )  # fmt: skip


def passes(model: ModelProto) -> Graph:
    return run_pipeline(load_onnx(model), PIPELINES["default"], evaluate=evaluate_op)


def relative(found: np.ndarray, want: np.ndarray) -> float:
    return float(np.linalg.norm(found - want) / np.linalg.norm(want))


@pytest.mark.parametrize("zeros", ["none", "integers", "floats"])
@pytest.mark.parametrize(("bits", "block", "k"), SHAPES)
def test_products_are_those_of_the_decoded_matrix(bits, block, k, zeros, tmp_path: Path) -> None:
    constants, w = random(bits, block, k, 37, zeros)
    model = model_of(
        [nbits(bits, block, k, 37, constants)], {"x": np.zeros((2, 5, k), np.float32)}, constants,
        {"x": ("b", "m", k)},
    )  # fmt: skip
    graph = passes(model)
    low = build(graph, tmp_path / "m.tw", TARGET)
    (question,) = low.state.choices.questions
    assert isinstance(question.task, CodedMatmulTask)
    assert {c.family.name for c in question.candidates} == {"coded_matmul"}
    for shape in ((1, 1, k), (2, 2, k), (2, 5, k)):
        x = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
        exact = x.astype(np.float64) @ w
        for found in (run(graph, [x])[0], run_artifact(tmp_path / "m.tw", graph, [x])[0]):
            assert relative(found, exact) < 1e-6
        if zeros != "floats" or bits == 4:
            assert relative(by_onnxruntime(model, {"x": x}), exact) < 1e-5

"""Weights of full rank whose inputs lie in few dimensions: samples lead to one of low rank."""

import json
import zipfile

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

import tilewright
from tilewright.compiler.formats import named
from tilewright.compiler.samples import HELD_OUT

WIDTH, DIMENSIONS = 512, 32
BOUND = 2e-6
"""Above the rounding of f32 on either side, far below any format of codes."""


def model():
    """y f32[n, WIDTH] = x W + b, Gaussian W."""
    random = np.random.default_rng(1)
    weights = {"w": random.standard_normal((WIDTH, WIDTH)), "b": random.standard_normal(WIDTH)}
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "w"], ["p"], name="product"),
            helper.make_node("Add", ["p", "b"], ["y"], name="bias"),
        ],
        "subspace",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", WIDTH])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", WIDTH])],
        [numpy_helper.from_array(a.astype(np.float32), name) for name, a in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("subspace")
    onnx.save(model(), path / "model.onnx")
    random = np.random.default_rng(2)
    mixing = random.standard_normal((DIMENSIONS, WIDTH))
    rows = random.standard_normal((8, 100, DIMENSIONS)) @ mixing
    np.savez(path / "samples.npz", x=rows.astype(np.float32))
    return path


@pytest.fixture(scope="module")
def artifact(folder):
    given = {"calibrate": str(folder / "samples.npz"), "max_error": BOUND, "jobs": 0}
    tilewright.compile(folder / "model.onnx", folder / "low.tw", **given)
    return folder / "low.tw"


def test_the_rank_of_the_inputs_is_chosen_and_errs_by_rounding_alone(folder, artifact):
    with zipfile.ZipFile(artifact) as archive:
        plan = json.loads(archive.read("plan.json"))
    (variant,) = plan["variants"].values()
    assert variant["formats"] == {"product, bias": f"r{DIMENSIONS}-f32"}
    (error,) = plan["contract"]["measured"]
    assert error <= BOUND
    held = np.load(folder / "samples.npz")["x"][HELD_OUT - 1 :: HELD_OUT]
    weights = {w.name: numpy_helper.to_array(w) for w in model().graph.initializer}
    reference = ort.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    with tilewright.load(artifact, threads=1) as session:
        for x in held:
            (got,) = session.run(None, {"x": x})
            (by_others,) = reference.run(None, {"x": x})
            exact = x.astype(np.float64) @ weights["w"] + weights["b"]
            assert np.linalg.norm(got - exact) <= 1e-6 * np.linalg.norm(exact)
            assert np.linalg.norm(got - by_others) <= 1e-6 * np.linalg.norm(exact)


def test_it_is_an_eighth_of_the_size(folder, artifact):
    tilewright.compile(folder / "model.onnx", folder / "exact.tw", jobs=0)
    sizes = []
    for name in ("low.tw", "exact.tw"):
        with zipfile.ZipFile(folder / name) as archive:
            sizes.append(archive.getinfo("weights.safetensors").file_size)
    assert sizes[0] < sizes[1] / 7


def test_weights_alone_would_lose_most_of_the_output(folder):
    """That a decomposition without inputs does not do it, at the rank that was chosen."""
    x = np.load(folder / "samples.npz")["x"][0]
    w = numpy_helper.to_array(model().graph.initializer[0])
    made = named(f"r{DIMENSIONS}-f32")
    exact = x.astype(np.float64) @ w
    off = made.multiply(x, made.encode(w)) - exact
    assert np.linalg.norm(off) > 0.5 * np.linalg.norm(exact)

"""Plain models whose weights have zeros: kernels that do not store them, and what plans say."""

from __future__ import annotations

import json
import zipfile

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tilewright import load
from tilewright.backends.cuda.toolchain import tools
from tilewright.backends.kernels.wgmma_sparse_matmul.cases import sparse
from tilewright.compiler.driver import compile_model
from tilewright.compiler.options import Options


def model_of(w: np.ndarray) -> onnx.ModelProto:
    """y = x w."""
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"], name="product")],
        "sparse",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ("n", w.shape[0]))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ("n", w.shape[1]))],
        [numpy_helper.from_array(w, "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def compiled(tmp_path, w, **options):
    """Where the artifact is, and the one choice of its plan."""
    onnx.save(model_of(w), tmp_path / "m.onnx")
    made = tmp_path / "m.tw"
    options = {"targets": ("x86-64-v3",), **options}
    compile_model(tmp_path / "m.onnx", made, Options(**options))
    plan = json.loads(zipfile.ZipFile(made).read("plan.json"))
    (variant,) = plan["variants"].values()
    (choice,) = variant["selection"]["choices"]
    return made, choice


def reasons(choice) -> dict[str, str]:
    """By family why its best was not chosen, or that it was."""
    found: dict[str, str] = {}
    for candidate in choice["candidates"]:
        found.setdefault(candidate["family"], candidate["reason"])
    return found


@pytest.mark.parametrize("rows", [1, 60])
def test_blocks_of_zeros_are_left_out_of_an_exact_model(tmp_path, rows):
    rng = np.random.default_rng(0)
    there = np.repeat(rng.random((192, 20)) < 0.1, 16, axis=1)
    w = np.where(there, rng.standard_normal(there.shape), 0).astype(np.float32)
    made, choice = compiled(tmp_path, w, typical={"n": rows})
    why = reasons(choice)
    assert why["block_matmul"] == "chosen"
    assert "times the time" in why["f32_matmul"]
    assert "times the time" in why["bitmap_matmul"]
    x = rng.standard_normal((rows, 192)).astype(np.float32)
    (y,) = load(made, threads=1).run(None, {"x": x})
    wanted = x.astype(np.float64) @ w
    np.testing.assert_allclose(y, wanted, 2e-5, 2e-5 * np.abs(wanted).max())


def test_narrow_blocks_of_zeros_are_those_of_an_exact_model(tmp_path):
    rng = np.random.default_rng(0)
    there = np.repeat(rng.random((192, 80)) < 0.1, 4, axis=1)
    w = np.where(there, rng.standard_normal(there.shape), 0).astype(np.float32)
    made, choice = compiled(tmp_path, w, typical={"n": 60})
    chosen = next(c for c in choice["candidates"] if c["reason"] == "chosen")
    assert "wide=4" in chosen["spec"]
    x = rng.standard_normal((60, 192)).astype(np.float32)
    (y,) = load(made, threads=1).run(None, {"x": x})
    wanted = x.astype(np.float64) @ w
    np.testing.assert_allclose(y, wanted, 2e-5, 2e-5 * np.abs(wanted).max())


def test_blocks_of_a_pointwise_convolution_are_left_out(tmp_path):
    rng = np.random.default_rng(0)
    there = np.repeat(rng.random((192, 20)) < 0.1, 16, axis=1)
    w = np.where(there, rng.standard_normal(there.shape), 0).astype(np.float32)
    model = model_of(np.ascontiguousarray(w.T)[:, :, None, None])
    model.graph.node[0].op_type = "Conv"
    for value, size in ((model.graph.input[0], 192), (model.graph.output[0], 320)):
        kind = helper.make_tensor_type_proto(TensorProto.FLOAT, (1, size, 7, 9))
        value.type.CopyFrom(kind)
    onnx.save(model, tmp_path / "m.onnx")
    compile_model(tmp_path / "m.onnx", tmp_path / "m.tw", Options(targets=("x86-64-v3",)))
    plan = json.loads(zipfile.ZipFile(tmp_path / "m.tw").read("plan.json"))
    (choice,) = next(iter(plan["variants"].values()))["selection"]["choices"]
    assert reasons(choice)["block_matmul"] == "chosen"
    x = rng.standard_normal((1, 192, 7, 9)).astype(np.float32)
    (y,) = load(tmp_path / "m.tw", threads=1).run(None, {"x": x})
    wanted = np.einsum("bchw,co->bohw", x.astype(np.float64), w)
    np.testing.assert_allclose(y, wanted, 2e-5, 2e-5 * np.abs(wanted).max())


@pytest.mark.slow
def test_channels_are_ordered_so_that_zeros_are_blocks(tmp_path):
    rng = np.random.default_rng(0)
    there = np.repeat(rng.random((192, 20)) < 0.1, 16, axis=1)[:, rng.permutation(320)]
    first = np.where(there, rng.standard_normal(there.shape), 0).astype(np.float32)
    second = rng.standard_normal((320, 24)).astype(np.float32)
    model = model_of(first)
    graph = model.graph
    graph.node[0].output[0] = "h"
    graph.node.append(helper.make_node("Sigmoid", ["h"], ["s"]))
    graph.node.append(helper.make_node("MatMul", ["s", "v"], ["y"]))
    graph.initializer.append(numpy_helper.from_array(second, "v"))
    graph.output[0].type.tensor_type.shape.dim[1].dim_value = 24
    onnx.save(model, tmp_path / "m.onnx")
    options = Options(targets=("x86-64-v3",), typical={"n": 60})
    compile_model(tmp_path / "m.onnx", tmp_path / "m.tw", options)
    plan = json.loads(zipfile.ZipFile(tmp_path / "m.tw").read("plan.json"))
    (rewrite,) = (r for r in plan["rewrites"] if "blocks" in r["text"])
    blocks = int(there[:, np.argsort(there.T @ 2.0 ** np.arange(192))].sum()) // 16
    assert rewrite["text"].startswith(f"{blocks} of ")
    choices = next(iter(plan["variants"].values()))["selection"]["choices"]
    chosen = [c for choice in choices for c in choice["candidates"] if c["reason"] == "chosen"]
    assert any(c["family"] == "block_matmul" and "wide=16" in c["spec"] for c in chosen)
    x = rng.standard_normal((60, 192)).astype(np.float32)
    (y,) = load(tmp_path / "m.tw", threads=1).run(None, {"x": x})
    wanted = (1 / (1 + np.exp(-(x.astype(np.float64) @ first)))) @ second
    np.testing.assert_allclose(y, wanted, 2e-5, 2e-5 * np.abs(wanted).max())


@pytest.mark.slow
def test_a_dead_channel_stays_where_blocks_would_lose_their_places(tmp_path):
    rng = np.random.default_rng(0)
    there = np.repeat(rng.random((192, 80)) < 0.1, 4, axis=1)
    first = np.where(there, rng.standard_normal(there.shape), 0).astype(np.float32)
    second = rng.standard_normal((320, 24)).astype(np.float32)
    second[5] = 0
    rewrites = []
    for w in (first, rng.standard_normal(first.shape).astype(np.float32)):
        model = model_of(w)
        graph = model.graph
        graph.node[0].output[0] = "h"
        graph.node.add().CopyFrom(helper.make_node("MatMul", ["h", "v"], ["y"]))
        graph.initializer.append(numpy_helper.from_array(second, "v"))
        graph.output[0].type.tensor_type.shape.dim[1].dim_value = 24
        onnx.save(model, tmp_path / "m.onnx")
        options = Options(targets=("x86-64-v3",), typical={"n": 60})
        compile_model(tmp_path / "m.onnx", tmp_path / "m.tw", options)
        plan = json.loads(zipfile.ZipFile(tmp_path / "m.tw").read("plan.json"))
        rewrites.append([r["text"] for r in plan["rewrites"] if "channels" in r["text"]])
    assert rewrites == [["319 of 320 channels would be slower"], ["319 of 320 channels"]]


@pytest.mark.skipif(not all(tools()), reason="no CUDA compiler or assembler")
@pytest.mark.parametrize(
    ("error", "family"),
    [
        (1e-2, "wgmma_sparse_matmul"),
        pytest.param(None, "wgmma_matmul", marks=pytest.mark.slow),
    ],
)
def test_two_of_four_weights_go_to_sparse_tensor_cores(tmp_path, error, family):
    w = sparse(np.random.default_rng(0), 1024, 2048)
    options = {"targets": ("sm_90a",), "max_error": error, "typical": {"n": 4096}}
    _, choice = compiled(tmp_path, w, **options)
    assert [name for name, why in reasons(choice).items() if why == "chosen"] == [family]


def test_dense_weights_are_offered_nothing_sparse(tmp_path):
    w = np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32)
    _, choice = compiled(tmp_path, w)
    assert reasons(choice).keys().isdisjoint({"bitmap_matmul", "block_matmul"})

"""Fewer hidden channels under an error contract, from the ONNX file to the artifact."""

import json
import zipfile
from functools import cache

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper
from support.decoder_model import GROUPS, WORDS, decoder_model

import tilewright
from tilewright.backends.llvm import codegen

RANDOM = np.random.default_rng(2)
WIDTH, HIDDEN = 32, 128


@pytest.fixture(scope="module", autouse=True)
def _kernels_once():
    """Equal kernels of the compiles of this module are compiled once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(codegen, "compile_kernel", cache(codegen.compile_kernel))
        yield


def layer(copies):
    """y = x + down(tanh(up x)); copies: the second half of the hidden channels repeats the first,
    with other weights behind it."""
    up, down = (
        (RANDOM.standard_normal(shape) * 0.2).astype(np.float32)
        for shape in ((WIDTH, HIDDEN), (HIDDEN, WIDTH))
    )
    if copies:
        # Not one by one: passes for exact structure would find equal columns before.
        up[:, HIDDEN // 2 :] = -up[:, : HIDDEN // 2]
    nodes = [
        helper.make_node("MatMul", ["x", "up"], ["h"], name="up"),
        helper.make_node("Tanh", ["h"], ["t"], name="tanh"),
        helper.make_node("MatMul", ["t", "down"], ["s"], name="down"),
        helper.make_node("Add", ["x", "s"], ["y"], name="add"),
    ]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", WIDTH]) for name in ("x", "y")
    ]
    weights = [numpy_helper.from_array(a, n) for n, a in (("up", up), ("down", down))]
    graph = helper.make_graph(nodes, "layer", ends[:1], ends[1:], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def compiled(folder, copies, **options):
    onnx.save(layer(copies), folder / "layer.onnx")
    samples = RANDOM.standard_normal((16, 60, WIDTH)).astype(np.float32)
    np.savez(folder / "samples.npz", x=samples)
    given = {"calibrate": str(folder / "samples.npz"), "jobs": 0, **options}
    tilewright.compile(folder / "layer.onnx", folder / "layer.tw", **given)
    with zipfile.ZipFile(folder / "layer.tw") as archive:
        plan = json.loads(archive.read("plan.json"))
    rows = [r for r in plan["rewrites"] if r["pass"] == "shrink-dimensions"]
    return plan, rows


def test_channels_that_repeat_are_left_out(tmp_path):
    plan, (row,) = compiled(tmp_path, True, max_error=1e-4, optimize="size")
    assert (row["source"], row["weight"], row["applied"]) == ("down", "down", True)
    assert row["text"].startswith("64 of 128 stay, predicted error ")
    assert row["found"].startswith("hidden channels: without 64 of 128 sums are 0.0")
    assert "shrink-dimensions" in [p["name"] for p in plan["passes"]]
    x = RANDOM.standard_normal((50, WIDTH)).astype(np.float32)
    reference = ort.InferenceSession(tmp_path / "layer.onnx", providers=["CPUExecutionProvider"])
    (want,) = reference.run(None, {"x": x})
    with tilewright.load(tmp_path / "layer.tw", threads=1) as session:
        (got,) = session.run(None, {"x": x})
    assert np.linalg.norm(got - want) <= 1e-4 * np.linalg.norm(want)


def test_random_channels_stay(tmp_path):
    """And what would have been lost is on record."""
    _, (row,) = compiled(tmp_path, False, max_error=1e-4)
    assert not row["applied"]
    assert row["text"].endswith(", 5e-05 is allowed")
    error = float(row["text"].removeprefix("predicted error ").split(",")[0])
    assert error > 0.01


@pytest.mark.parametrize("options", [{"keep": (("down", "f32"),)}, {"keep": (("up", "bf16x3"),)}])
def test_what_is_kept_is_left_alone(tmp_path, options):
    _, rows = compiled(tmp_path, True, max_error=1e-3, **options)
    assert rows == []


@pytest.mark.slow
def test_beside_caches_in_codes(tmp_path):
    """What both cost is taken off what formats may cost, and measured with them."""
    model = decoder_model(past=True)
    width = 64
    up = (RANDOM.standard_normal((width, HIDDEN)) * 0.1).astype(np.float32)
    up[:, HIDDEN // 2 :] = -up[:, : HIDDEN // 2]
    down = (RANDOM.standard_normal((HIDDEN, width)) * 0.1).astype(np.float32)
    model.graph.initializer.extend(
        numpy_helper.from_array(a, n) for n, a in (("up", up), ("down", down))
    )
    nodes = list(model.graph.node)
    at = next(i for i, node in enumerate(nodes) if node.name == "node_logits")
    before = nodes[at].input[0]
    nodes[at].input[0] = "after"
    nodes[at:at] = [
        helper.make_node("MatMul", [before, "up"], ["hidden"], name="up"),
        helper.make_node("Tanh", ["hidden"], ["bent"], name="tanh"),
        helper.make_node("MatMul", ["bent", "down"], ["added"], name="down"),
        helper.make_node("Add", [before, "added"], ["after"], name="add"),
    ]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.save(model, tmp_path / "decode.onnx")
    (tmp_path / "feeds").mkdir()
    for i in range(16):
        rows = RANDOM.standard_normal((2, 2, 8, GROUPS, 20 + i, 16)).astype(np.float32)
        ids = RANDOM.integers(0, WORDS, (8, 1))
        np.savez(tmp_path / "feeds" / f"{i}.npz", ids=ids, past_k=rows[0], past_v=rows[1])
    given = {"calibrate": str(tmp_path / "feeds"), "jobs": 0, "kv_cache": "int8"}
    path = tmp_path / "decode.tw"
    tilewright.compile(tmp_path / "decode.onnx", path, max_error=0.05, optimize="size", **given)
    with zipfile.ZipFile(path) as archive:
        plan = json.loads(archive.read("plan.json"))
    rows = [r for r in plan["rewrites"] if r["pass"] == "shrink-dimensions"]
    (row,) = [r for r in rows if r["weight"] == "down"]
    assert row["applied"], row
    assert row["text"].startswith("64 of 128 stay, predicted error ")
    record = plan["contract"]
    assert record["kv_cache"]["format"] == "int8"
    assert max(record["measured"]) <= 0.05
    assert record["predicted"][0] >= record["kv_cache"]["alone"][0] * 0.999


@pytest.mark.slow
def test_channels_of_convolutions(tmp_path):
    """Half of the channels between two 3x3 convolutions, with a bias and ReLU, are copies."""
    first, second = (
        (RANDOM.standard_normal(shape) * 0.1).astype(np.float32)
        for shape in ((64, 8, 3, 3), (16, 64, 3, 3))
    )
    bias = RANDOM.standard_normal(64).astype(np.float32) * 0.1
    first[32:], bias[32:] = 2 * first[:32], 2 * bias[:32]
    nodes = [
        helper.make_node("Conv", ["x", "first", "bias"], ["h"], name="conv1", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["h"], ["t"], name="relu"),
        helper.make_node("Conv", ["t", "second"], ["y"], name="conv2", pads=[1, 1, 1, 1]),
    ]
    weights = {"first": first, "second": second, "bias": bias}
    graph = helper.make_graph(
        nodes,
        "convolutions",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 8, 12, 12])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 16, 12, 12])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    opset = [helper.make_opsetid("", 20)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=10)
    onnx.save(model, tmp_path / "layer.onnx")
    samples = RANDOM.standard_normal((16, 4, 8, 12, 12)).astype(np.float32)
    np.savez(tmp_path / "samples.npz", x=samples)
    path, calibrate = tmp_path / "layer.tw", str(tmp_path / "samples.npz")
    options = {"calibrate": calibrate, "max_error": 1e-3, "optimize": "size", "jobs": 0}
    tilewright.compile(tmp_path / "layer.onnx", path, **options)
    with zipfile.ZipFile(path) as archive:
        plan = json.loads(archive.read("plan.json"))
    (row,) = [r for r in plan["rewrites"] if r["pass"] == "shrink-dimensions"]
    assert (row["source"], row["applied"]) == ("conv2", True)
    assert row["text"].startswith("32 of 64 stay, predicted error ")
    assert max(plan["contract"]["measured"]) <= 1e-3

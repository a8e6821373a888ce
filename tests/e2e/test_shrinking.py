"""Fewer hidden channels under an error contract, from the ONNX file to the artifact."""

import json
import zipfile
from functools import cache

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

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

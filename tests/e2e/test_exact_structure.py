"""A model whose weights have structure: compiled to smaller ones, with the same outputs."""

import json
import zipfile

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from support import planted_structures as plant

from tilewright.compiler.driver import compile_model
from tilewright.compiler.options import Options
from tilewright.runtime.session import load


def planted():
    hidden = plant.gaussian(256, 512, 2)
    hidden[:, ::4] = 0  # a quarter of the channels is the bias alone
    return {
        "thin": plant.low_rank(256, 256, 8),
        "up": hidden,
        "down": plant.gaussian(512, 256, 3),
        "blocks": plant.block_diagonal([(64, 64)] * 4),
        "dense": plant.gaussian(256, 64, 4),
    }


def model(weights):
    nodes = [
        helper.make_node("MatMul", ["x", "thin"], ["a"], "thin"),
        helper.make_node("Tanh", ["a"], ["b"], "tanh"),
        helper.make_node("MatMul", ["b", "up"], ["c"], "up"),
        helper.make_node("Add", ["c", "bias"], ["d"], "bias"),
        helper.make_node("Relu", ["d"], ["e"], "relu"),
        helper.make_node("MatMul", ["e", "down"], ["f"], "down"),
        helper.make_node("Tanh", ["f"], ["g"], "tanh2"),
        helper.make_node("MatMul", ["g", "blocks"], ["h"], "blocks"),
        helper.make_node("Tanh", ["h"], ["i"], "tanh3"),
        helper.make_node("MatMul", ["i", "dense"], ["y"], "dense"),
    ]
    bias = np.linspace(-1, 1, 512, dtype=np.float32)
    scaled = {n: (w / np.sqrt(len(w))).astype(np.float32) for n, w in weights.items()}
    graph = helper.make_graph(
        nodes,
        "planted",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", 256])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", 64])],
        [numpy_helper.from_array(w, n) for n, w in {**scaled, "bias": bias}.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return made, scaled, bias


def expected(x, w, bias):
    w = {n: a.astype(np.float64) for n, a in w.items()}
    e = np.maximum(np.tanh(x @ w["thin"]) @ w["up"] + bias, 0)
    return np.tanh(np.tanh(e @ w["down"]) @ w["blocks"]) @ w["dense"]


@pytest.mark.isa("avx2", "fma")
def test_compiled_and_run(tmp_path):
    made, weights, bias = model(planted())
    source, artifact = tmp_path / "m.onnx", tmp_path / "m.tw"
    onnx.save(made, source)
    compile_model(source, artifact, Options(targets=("x86-64-v3",)))
    with zipfile.ZipFile(artifact) as file:
        plan = json.loads(file.read("plan.json"))
    told = [(r["pass"], r["source"], r["applied"], r["text"]) for r in plan["rewrites"]]
    assert told == [
        ("remove-dead-channels", "down", True, "384 of 512 channels"),
        ("order-channels", "dense", True, "1024 of 4032 blocks"),
        (  # in that order a kernel that skips zeros is as fast
            "split-block-diagonal",
            "blocks",
            False,
            "4 products would take 1.05 times as long",
        ),
        ("factor-low-rank", "thin", True, "factors of rank 8"),
    ]
    for rows in (1, 7, 130):
        x = np.random.default_rng(rows).standard_normal((rows, 256)).astype(np.float32)
        with load(artifact, threads=1) as session:
            (y,) = session.run(None, {"x": x})
        want = expected(x.astype(np.float64), weights, bias)
        assert np.linalg.norm(y - want) <= 2e-6 * np.linalg.norm(want)

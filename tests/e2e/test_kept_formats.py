"""Formats that rarely win, asked for by name: from `keep` to what the artifact computes."""

import json
import zipfile

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import tilewright

K, N = 272, 64
RANDOM = np.random.default_rng(8)
MIXED = RANDOM.standard_normal((K, K)) / np.sqrt(4 * K) + np.eye(K)
SAMPLES = (RANDOM.standard_normal((6, 100, K)) @ MIXED).astype(np.float32)
W = (RANDOM.standard_normal((K, N)) / 16).astype(np.float32)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    path = tmp_path_factory.mktemp("kept")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"], name="product")],
        "one",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", K])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", N])],
        [numpy_helper.from_array(W, "w")],
    )
    opset = helper.make_opsetid("", 20)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=10), path / "m.onnx")
    np.savez(path / "samples.npz", x=SAMPLES)
    return path


@pytest.mark.parametrize(
    ("name", "low", "high", "bits"),
    [
        ("f8e4m3", 0.005, 0.035, 8.6),
        ("f8e5m2", 0.01, 0.07, 8.6),
        ("w2h-g64", 0.1, 0.4, 3.2),
        ("w2ha8b64-g64", 0.1, 0.4, 3.2),
        ("glvq2-g128", 0.1, 0.4, 5.0),
        ("glvq3-g128", 0.05, 0.2, 6.5),
    ],
)
def test_a_format_is_followed(files, name, low, high, bits):
    path = files / f"{name}.tw"
    result = tilewright.compile(
        files / "m.onnx",
        path,
        calibrate=str(files / "samples.npz"),
        max_error=0.5,
        keep={"product": name},
        jobs=0,
    )
    with zipfile.ZipFile(path) as archive:
        (variant,) = json.loads(archive.read("plan.json"))["variants"].values()
        size = archive.getinfo("weights.safetensors").file_size
    assert variant["formats"] == {"product": name}
    # Panels of 32 columns and groups of 128 rows are filled up: 384 rows of 272.
    assert 8 * (size - 1024) / (K * N) < bits
    (measured,) = result.contract.measured
    assert low < measured < high
    for rows in (1, 40):
        x = SAMPLES[0][:rows]
        with tilewright.load(path, 1) as session:
            (found,) = session.run(None, {"x": x})
        expected = x @ W
        assert np.linalg.norm(found - expected) < 1.3 * high * np.linalg.norm(expected)

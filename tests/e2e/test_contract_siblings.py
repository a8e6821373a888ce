"""An error contract with queries and keys in 4 bits and values in 8: one product of each kind."""

import json
import zipfile

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper
from support.contract_model import layered_samples

import tilewright
from tilewright.backends.target import detect
from tilewright.compiler.samples import HELD_OUT

SAMPLES = layered_samples(8, 40, 128)
KEEP = (("q", "w4-g64"), ("k", "w4-g64"), ("v", "w8-g64"))


def attention() -> onnx.ModelProto:
    """y = softmax(x Wq (x Wk)^T / 64) x Wv, of widths 64, 64 and 33."""
    random = np.random.default_rng(5)
    weights = {
        f"w{name}": (random.standard_normal((128, n)) * 0.1).astype(np.float32)
        for name, n in (("q", 64), ("k", 64), ("v", 33))
    }
    weights["scale"] = np.float32(64)
    nodes = [
        *(helper.make_node("MatMul", ["x", f"w{n}"], [n], name=n) for n in "qkv"),
        helper.make_node("Transpose", ["k"], ["kt"], perm=[1, 0]),
        helper.make_node("MatMul", ["q", "kt"], ["s"], name="scores"),
        helper.make_node("Div", ["s", "scale"], ["d"]),
        helper.make_node("Softmax", ["d"], ["p"], axis=-1),
        helper.make_node("MatMul", ["p", "v"], ["y"], name="mixed"),
    ]
    graph = helper.make_graph(
        nodes,
        "attention",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 128])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 33])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def test_parts_keep_formats_of_their_own(tmp_path):
    onnx.save(attention(), tmp_path / "a.onnx")
    np.savez(tmp_path / "samples.npz", x=SAMPLES)
    path = tmp_path / "a.tw"
    given = {"calibrate": str(tmp_path / "samples.npz"), "max_error": 0.3, "jobs": 0, "keep": KEEP}
    tilewright.compile(tmp_path / "a.onnx", path, **given)
    with zipfile.ZipFile(path) as archive:
        plan = json.loads(archive.read("plan.json"))
    variant = plan["variants"][detect().name]
    assert {node: variant["formats"][node] for node, _ in KEEP} == dict(KEEP)
    (fork,) = variant["selection"]["forks"]
    taken = fork["ways"][0]
    assert fork["sources"] == ["q", "k", "v"]
    assert taken["launches"] in ([["q", "k"], ["v"]], [["q"], ["k"], ["v"]])
    assert taken["numerics"][-1] == "w8-g64"
    assert [["q", "k", "v"]] not in [way["launches"] for way in fork["ways"]]
    reference = ort.InferenceSession(tmp_path / "a.onnx", providers=["CPUExecutionProvider"])
    off = whole = 0.0
    with tilewright.load(path, threads=1) as session:
        for x in SAMPLES[HELD_OUT - 1 :: HELD_OUT]:
            (want,), (got,) = (s.run(None, {"x": x}) for s in (reference, session))
            off += float(np.sum((got.astype(np.float64) - want) ** 2))
            whole += float(np.sum(want.astype(np.float64) ** 2))
    (measured,) = plan["contract"]["measured"]
    assert measured == pytest.approx(np.sqrt(off / whole), rel=1e-3)
    assert 0 < measured <= 0.3
    (predicted,) = plan["contract"]["predicted"]
    assert measured / 2 < predicted < measured * 2

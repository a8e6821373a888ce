"""`tilewright inspect --structure`."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from support import planted_structures as plant
from support.command_line import call, refused


def model(path, weights, products=True):
    """x [b, 64] through one MatMul and one Tanh for each weight."""
    nodes, at = [], "x"
    for name in weights:
        nodes.append(helper.make_node("MatMul", [at, name], [f"y.{name}"], f"times.{name}"))
        nodes.append(helper.make_node("Tanh", [f"y.{name}"], [f"t.{name}"], f"tanh.{name}"))
        at = f"t.{name}"
    if not products:
        nodes, at = [helper.make_node("Tanh", ["x"], ["y"], "tanh")], "y"
    first, last = next(iter(weights.values())), list(weights.values())[-1]
    shapes = [first.shape[0], last.shape[1] if products else first.shape[0]]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["b", shapes[0]])],
        [helper.make_tensor_value_info(at, TensorProto.FLOAT, ["b", shapes[1]])],
        [numpy_helper.from_array(w, name) for name, w in weights.items()] if products else [],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(made, path)
    return path


@pytest.fixture
def planted(tmp_path):
    dense = plant.gaussian(64, 64, 3)
    broken = plant.gaussian(64, 64, 4)
    broken[2, 2] = np.nan
    weights = {
        "half": plant.n_of_m(64, 96, 2, 4),
        "thin": plant.low_rank(96, 64, 8),
        "product": plant.kronecker((8, 8), (8, 8)),
        "dense": dense,
        "twice": 2 * dense,
        "broken": broken,
    }
    return model(tmp_path / "planted.onnx", weights)


TABLE = Path(__file__).with_name("structure_table.txt")


def test_table(planted, capsys, monkeypatch, update_golden):
    monkeypatch.setenv("COLUMNS", "140")
    found = call(capsys, "inspect", planted, "--structure", "--target", "x86-64-v2").out
    lines = [line.rstrip() for line in found.splitlines()]
    if update_golden:
        TABLE.write_text("\n".join(lines) + "\n")
    assert lines == TABLE.read_text().splitlines()


def test_document(planted, capsys):
    document = call(capsys, "inspect", planted, "--structure", "--json").document
    found = {w["weight"]: w for w in document["weights"]}
    assert list(found) == ["half", "thin", "product", "dense", "twice", "broken"]
    assert [e["text"] for e in found["thin"]["exact"]] == ["rank 8 of 64"]
    (kronecker,) = found["product"]["exact"]
    assert (kronecker["kind"], kronecker["bytes"]) == ("Kronecker", 4 * 128)
    assert kronecker["multiplications"] == 2 * 8 * 8 * 8
    assert kronecker["saved_bytes"] == pytest.approx(1 - 128 / 4096)
    assert found["twice"]["shared"] == "2 x dense"
    assert found["dense"]["shared"] is None
    assert found["broken"]["note"] == "elements that are no numbers"
    assert found["half"]["nodes"] == ["times.half"]
    energy = {e["kind"]: e for e in found["dense"]["approximate"]}["spectrum"]
    assert energy["lost"] == pytest.approx(energy["null"], rel=0.1)
    assert not energy["better"]


def test_a_model_without_weights(tmp_path, capsys):
    path = model(tmp_path / "none.onnx", {"w": np.eye(4, dtype=np.float32)}, products=False)
    assert refused(capsys, "inspect", path, "--structure") == (
        f"{path}: no weights to look at\n"
        "  constants of f32 that products, convolutions or lookups read"
    )

"""`tilewright verify`: errors are measured right, and wrong code and wrong passes are found."""

import dataclasses

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from support.command_line import WEIGHT, call, model_of

from tilewright.compiler.frontend.load import load_onnx
from tilewright.compiler.ir.weights import from_array
from tilewright.passes.pipelines import Step
from tilewright.tools import demo, verify
from tilewright.tools.cli.build import index_ranges

MODEL = demo.model_path()


def test_relative_error() -> None:
    exact = np.array([3.0, 4.0])
    assert verify.relative_error(np.array([3.0, 4.5]), exact) == pytest.approx(0.1)
    assert verify.relative_error(exact, exact) == 0
    assert verify.relative_error(np.array([0.25, 0.0]), np.zeros(2)) == 0.25
    assert verify.relative_error(np.zeros(3), exact) == float("inf")
    odd = np.array([np.nan, np.inf, 2.0])
    assert verify.relative_error(odd, odd) == 0
    assert verify.relative_error(np.array([np.nan, -np.inf, 2.0]), odd) == float("inf")
    assert verify.relative_error(np.array([1.0, np.inf, 2.0]), odd) == float("inf")
    assert verify.relative_error(np.array([True, False]), np.array([True, True])) > 0.5


def test_what_an_output_may_be_off() -> None:
    exact, near = [np.array([1.0])], [np.array([1.0 + 3e-6])]
    (alone,) = verify.judge(["y"], near, None, exact, 1e-6)
    assert not alone.passed
    (beside,) = verify.judge(["y"], near, [np.array([1.0 + 2e-6])], exact, 1e-6)
    assert beside.passed
    assert beside.limit == pytest.approx(4e-6)
    (best,) = verify.judge(["y"], near, [np.array([1.0 + 1e-6])], exact, 1e-6)
    assert not best.passed


@pytest.mark.parametrize("against", ["onnxruntime", "float64"])
def test_a_right_artifact_passes(against, digits_artifact, capsys) -> None:
    words = ("verify", MODEL, digits_artifact, "--shape", "batch=3", "--against", against)
    called = call(capsys, *words, "--json")
    assert called.status == 0, called.err
    report = called.document
    assert report["passed"]
    assert report["against"] == against
    (row,) = report["outputs"]
    assert 0 < row["ours"] <= row["limit"]
    assert (row["peer"] is None) == (against == "float64")
    assert " passed" in call(capsys, *words).out


def test_an_artifact_of_other_weights_fails(digits_artifact, tmp_path, monkeypatch, capsys) -> None:
    """One weight of 322,664 bytes is doubled; without the search, which compiles the model."""
    model = onnx.load(MODEL)
    tensor = next(t for t in model.graph.initializer if t.name == "conv2.bias")
    changed = numpy_helper.to_array(tensor).copy()
    changed[0] *= 2
    tensor.CopyFrom(numpy_helper.from_array(changed, "conv2.bias"))
    onnx.save(model, tmp_path / "other.onnx")
    monkeypatch.setattr(
        verify, "locate", lambda *a: verify.Divergence("rounding", "conv", "conv3", 2e-7, 1e-7)
    )
    called = call(capsys, "verify", tmp_path / "other.onnx", digits_artifact)
    assert called.status == 1
    first, second = called.err.rstrip("\n").split("\n")
    assert first == f"{digits_artifact}: output 'logits' is too far from float64"
    assert second.startswith("  relative L2 error ")
    assert "FAILED" in called.out
    assert "no operation is wrong by itself; conv of conv3 loses the most" in called.out
    assert f"not on {digits_artifact}" in called.out
    document = call(capsys, "verify", tmp_path / "other.onnx", digits_artifact, "--json").document
    assert not document["passed"]
    assert document["divergence"]["source"] == "conv3"


def test_an_artifact_of_another_model(digits_artifact, tmp_path, capsys) -> None:
    onnx.save(model_of([helper.make_node("Relu", ["x"], ["y"])]), tmp_path / "s.onnx")
    called = call(capsys, "verify", tmp_path / "s.onnx", digits_artifact, "--against", "float64")
    assert called.status == 1
    assert "input 'x'" in called.err or "not an artifact of this model" in called.err


@pytest.fixture
def chain(tmp_path):
    """exp(x), then + w, then tanh: three nodes that one region would compute."""
    nodes = [
        helper.make_node("Exp", ["x"], ["e"], name="grow"),
        helper.make_node("Add", ["e", "w"], ["s"], name="shift"),
        helper.make_node("Softmax", ["s"], ["y"], name="norm"),
    ]
    onnx.save(model_of(nodes, {"w": WEIGHT}), tmp_path / "chain.onnx")
    return load_onnx(tmp_path / "chain.onnx")


FEEDS = {"x": np.random.default_rng(1).standard_normal((2, 4)).astype(np.float32)}


class Wrong:
    """A session whose value number `index` is wrong by 1 %."""

    def __init__(self, session, index):
        self.session, self.index = session, index

    def __enter__(self):
        return self

    def __exit__(self, *details):
        self.session.close()

    def run(self, names, feeds):
        values = self.session.run(names, feeds)
        return [a * 1.01 if i >= self.index else a for i, a in enumerate(values)]


def test_the_first_wrong_operation_is_found(chain, tmp_path, monkeypatch) -> None:
    """Of the values exp, sum and softmax the last two come out wrong: the sum is to blame."""
    load = verify.load
    monkeypatch.setattr(verify, "load", lambda path: Wrong(load(path), 1))
    found = verify.first_operation(chain, FEEDS, tmp_path, "x86-64-v2", lambda text: None)
    assert found is not None
    assert (found.kind, found.source) == ("operation", "shift")
    assert found.error == pytest.approx(0.01, rel=1e-3)
    assert found.before < 1e-6


def test_right_code_is_only_blamed_for_rounding(chain, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(verify, "CHUNK", 2)
    said = []
    found = verify.locate(chain, FEEDS, tmp_path, "x86-64-v2", said.append)
    assert found is not None
    assert found.kind == "rounding"
    assert found.error < 1e-6
    assert said[-1].startswith("checking operations ")


def test_a_wrong_pass_is_found(chain, tmp_path, monkeypatch) -> None:
    def run_passes(graph, names, observer):
        damaged = {**graph.weights, "w": from_array(WEIGHT * 2)}
        wrong = graph.replace(weights=type(graph.weights)(damaged), ops=graph.ops[::1])
        wrong = dataclasses.replace(wrong, constraints=list(graph.constraints))
        observer(Step("harmless", graph, graph, 0.0))
        observer(Step("harmful", graph, wrong, 0.0))
        return wrong

    monkeypatch.setattr(verify, "run_passes", run_passes)
    found = verify.locate(chain, FEEDS, tmp_path, "x86-64-v2", lambda text: None)
    assert found is not None
    assert (found.kind, found.name) == ("pass", "harmful")
    assert found.error > 0.01


def test_indices_into_tables_get_their_range(tmp_path) -> None:
    from onnx import TensorProto

    nodes = [
        helper.make_node("Gather", ["words", "ids"], ["a"]),
        helper.make_node("Gather", ["types", "kinds"], ["b"]),
        helper.make_node("Add", ["a", "b"], ["y"]),
    ]
    tables = {"words": np.ones((100, 4), np.float32), "types": np.ones((2, 4), np.float32)}
    graph = helper.make_graph(
        nodes,
        "tables",
        [helper.make_tensor_value_info(n, TensorProto.INT64, ["n"]) for n in ("ids", "kinds")],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4])],
        [numpy_helper.from_array(array, name) for name, array in tables.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    assert index_ranges(load_onnx(model)) == {"ids": (0, 99), "kinds": (0, 1)}

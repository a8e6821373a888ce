"""Calling the command line in this process, and small models to call it on."""

import json
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tilewright.tools.cli.exits import run

WEIGHT = np.array([0.5, -1.0, 2.0, 0.25], np.float32)


@dataclass(frozen=True)
class Called:
    """Exit status and both streams of one call."""

    status: int
    out: str
    err: str

    @property
    def document(self):
        """The JSON document on stdout, which must be all that is there."""
        return json.loads(self.out)


def call(capsys, *words) -> Called:
    """`tilewright words...` in this process."""
    capsys.readouterr()
    status = run([str(word) for word in words])
    out, err = capsys.readouterr()
    return Called(status, out, err)


def refused(capsys, *words) -> str:
    """The message of a call that the user's mistake ends: exit status 1, no traceback."""
    called = call(capsys, *words)
    assert called.status == 1, called
    assert called.out == ""
    assert "Traceback" not in called.err
    return called.err.rstrip("\n")


def small_model() -> onnx.ModelProto:
    """y f32[n, 4] = relu(x f32[n, 4]) + w f32[4], nodes `act` and `plus`."""
    nodes = [
        helper.make_node("Relu", ["x"], ["h"], name="act"),
        helper.make_node("Add", ["h", "w"], ["y"], name="plus"),
    ]
    return model_of(nodes, {"w": WEIGHT})


def model_of(nodes, weights=(), shape=("n", 4)) -> onnx.ModelProto:
    """A model from x to y, both f32 of `shape`, with `weights` by name."""
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(array, name) for name, array in dict(weights).items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def expected(x):
    """What the small model computes."""
    return np.maximum(x, 0) + WEIGHT

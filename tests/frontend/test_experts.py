"""MoE of com.microsoft: against ONNX Runtime where that can run it, else against a plain loop."""

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from scipy.special import softmax

from tilewright.backends import reference
from tilewright.compiler.errors import UserError
from tilewright.compiler.frontend.load import load_onnx

EXPERTS, WIDTH, HIDDEN = 4, 16, 24
SLOTS = ("w1", "b1", "w2", "b2", "w3", "b3")
SHAPES = {
    "w1": (EXPERTS, HIDDEN, WIDTH),
    "b1": (EXPERTS, HIDDEN),
    "w2": (EXPERTS, WIDTH, HIDDEN),
    "b2": (EXPERTS, WIDTH),
    "w3": (EXPERTS, HIDDEN, WIDTH),
    "b3": (EXPERTS, HIDDEN),
}
RANDOM = np.random.default_rng(9)
WEIGHTS = {n: (RANDOM.standard_normal(s) * 0.3).astype(np.float32) for n, s in SHAPES.items()}


def model(slots=("w1", "w2"), shape=("t", WIDTH), constant=True, **attributes):
    names = [slot if slot in slots else "" for slot in SLOTS]
    inputs = ["x", "p", *names[: max(map(names.index, slots)) + 1]]
    node = helper.make_node("MoE", inputs, ["y"], name="moe", domain="com.microsoft", **attributes)
    values = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, shape),
        helper.make_tensor_value_info("p", TensorProto.FLOAT, ["rows", EXPERTS]),
    ]
    constants = [numpy_helper.from_array(WEIGHTS[slot], slot) for slot in slots]
    if not constant:
        values.append(helper.make_tensor_value_info("w1", TensorProto.FLOAT, SHAPES["w1"]))
        del constants[0]
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)
    graph = helper.make_graph([node], "moe", values, [out], constants)
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def ours(made, feeds):
    graph = load_onnx(made, {"rows": str(feeds["p"].shape[0])})
    (y,) = reference.run(graph, feeds)
    return y


def feeds_of(rows=11, shape=None):
    x = RANDOM.standard_normal(shape or (rows, WIDTH)).astype(np.float32)
    return {"x": x, "p": RANDOM.standard_normal((rows, EXPERTS)).astype(np.float32)}


@pytest.mark.parametrize("activation", ["relu", "gelu", "silu", "identity"])
@pytest.mark.parametrize(
    ("slots", "k", "normalized"),
    [(("w1", "w2"), 1, 0), (("w1", "b1", "w2", "b2"), 2, 1), (("w1", "w2", "b2"), 3, 0)],
)
def test_experts_are_those_of_onnx_runtime(activation, slots, k, normalized):
    made = model(slots, k=k, activation_type=activation, normalize_routing_weights=normalized)
    feeds = feeds_of()
    (want,) = onnxruntime.InferenceSession(made.SerializeToString()).run(None, feeds)
    np.testing.assert_allclose(ours(made, feeds), want, atol=3e-6)


def test_batches_of_sequences_are_rows():
    made = model(shape=("b", "s", WIDTH), k=2)
    feeds = feeds_of(6, (2, 3, WIDTH))
    (want,) = onnxruntime.InferenceSession(made.SerializeToString()).run(None, feeds)
    np.testing.assert_allclose(ours(made, feeds), want, atol=3e-6)


def test_gated_experts_multiply_by_the_third_layer():
    feeds = feeds_of(5)
    got = ours(model(SLOTS, k=2, activation_type="silu"), feeds)
    shares = softmax(feeds["p"].astype(np.float64), axis=1)
    want = np.zeros(got.shape)
    for row, (x, share) in enumerate(zip(feeds["x"].astype(np.float64), shares, strict=True)):
        for e in np.argsort(-share)[:2]:
            w = {name: array[e].astype(np.float64) for name, array in WEIGHTS.items()}
            gate = w["w1"] @ x + w["b1"]
            hidden = gate / (1 + np.exp(-gate)) * (w["w3"] @ x + w["b3"])
            want[row] += share[e] * (w["w2"] @ hidden + w["b2"])
    np.testing.assert_allclose(got, want, atol=3e-6)


WHERE = "model: node 'moe' (MoE, opset 1): "
REFUSED = {
    "activation": (
        {"activation_type": "swiglu"},
        (
            "the activation of experts is not supported\n"
            "  expected one of relu, gelu, silu, identity, found swiglu"
        ),
    ),
    "mixer": (
        {"use_sparse_mixer": 1, "k": 2},
        (
            "routing by sparse mixer is not supported\n"
            "  try: export with use_sparse_mixer 0, or the router as operators of its own"
        ),
    ),
    "weights": (
        {"constant": False},
        (
            "input 2 is not constant\n"
            "  f32[4, 24, 16]\n"
            "  try: make the weights of experts initializers"
        ),
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_imported(case):
    options, message = REFUSED[case]
    with pytest.raises(UserError) as refusal:
        load_onnx(model(**options), {})
    assert str(refusal.value) == f"{WHERE}{message}"

"""The shipped demo model: its interface, its accuracy, and the trainer that made it."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import numpy_helper

from tilewright.tools import demo
from tilewright.tools.demo import build, network


def predict(model: onnx.ModelProto, images: np.ndarray) -> np.ndarray:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(["logits"], {"image": images})[0]


def test_the_shipped_model_is_accurate_and_small() -> None:
    images, labels = demo.test_split()
    assert images.shape == (450, 1, 8, 8)
    assert images.dtype == np.float32
    assert images.min() == 0
    assert images.max() == 1
    assert np.bincount(labels).min() >= 40, "every digit is in the split"
    logits = predict(onnx.load(demo.model_path()), images)
    assert (logits.argmax(axis=1) == labels).mean() >= 0.98
    folder = demo.model_path().parent
    assert sum(p.stat().st_size for p in folder.glob("digits*")) < 1_000_000


def test_the_exported_graph_means_the_same_as_the_trained_network() -> None:
    images, _ = demo.test_split()
    model = onnx.load(demo.model_path())
    weights = {w.name: numpy_helper.to_array(w) for w in model.graph.initializer}
    expected = network.forward(weights, images[:64]).logits
    np.testing.assert_allclose(predict(model, images[:64]), expected, rtol=1e-4, atol=1e-4)
    again = build.to_onnx(weights)
    assert again.SerializeToString() == model.SerializeToString()


@pytest.mark.parametrize("name", ["conv1.weight", "conv2.bias", "conv3.weight", "dense1.weight"])
def test_gradients_agree_with_finite_differences(name: str) -> None:
    rng = np.random.default_rng(3)
    weights = {k: w.astype(np.float64) for k, w in network.initial_weights(rng).items()}
    images = rng.random((4, 1, 8, 8))
    labels = np.array([1, 7, 2, 9])

    def loss() -> float:
        logits = network.forward(weights, images).logits
        top = logits.max(axis=1, keepdims=True)
        norm = np.log(np.exp(logits - top).sum(axis=1)) + top[:, 0]
        return float((norm - logits[np.arange(4), labels]).mean())

    direction = rng.standard_normal(weights[name].shape)
    slope = float((network.gradients(weights, images, labels)[name] * direction).sum())
    step, start = 1e-6, weights[name]
    weights[name] = start + step * direction
    above = loss()
    weights[name] = start - step * direction
    assert slope == pytest.approx((above - loss()) / (2 * step), rel=1e-4, abs=1e-7)


@pytest.mark.slow
def test_training_again_reaches_the_accuracy(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("sys.argv", ["build", str(tmp_path)])
    build.main()
    images, labels = demo.test_split()
    logits = predict(onnx.load(tmp_path / "digits.onnx"), images)
    assert (logits.argmax(axis=1) == labels).mean() >= 0.98

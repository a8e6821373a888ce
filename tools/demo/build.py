"""Train the demo model again.

    pip install ".[demo-train]" && python -m tilewright.tools.demo.build

Writes digits.onnx and digits_test.npz beside this file, or under the folder given as argument.
The data are scikit-learn's copy of the UCI "Optical Recognition of Handwritten Digits" test set
(Alpaydin & Kaynak 1998; 1797 images of 8x8 pixels with values 0..16); a quarter is held out.
Weights are the same for the same numpy and BLAS; another BLAS rounds differently.
"""

import sys
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from tilewright.tools.demo.network import (
    Adam,
    Array,
    Weights,
    forward,
    gradients,
    initial_weights,
)

SEED = 20
EPOCHS = 40
BATCH = 64
RATE = 2e-3
MIN_ACCURACY = 0.98
OPSET = 20


def main() -> None:
    """Train, check the held-out accuracy, and write both files."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
    pixels, labels = load_digits(return_X_y=True)
    images = pixels.reshape(-1, 1, 8, 8).astype(np.float32) / np.float32(16)
    train_x, test_x, train_y, test_y = train_test_split(
        images, labels.astype(np.int64), test_size=0.25, stratify=labels, random_state=SEED
    )
    weights = train(train_x, train_y)
    accuracy = float((forward(weights, test_x).logits.argmax(axis=1) == test_y).mean())
    print(f"held-out accuracy {accuracy:.4f} on {len(test_y)} images")
    if accuracy < MIN_ACCURACY:
        sys.exit(f"below {MIN_ACCURACY}: nothing written")
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(to_onnx(weights), folder / "digits.onnx")
    np.savez_compressed(
        folder / "digits_test.npz",
        pixels=np.rint(test_x[:, 0] * 16).astype(np.uint8),
        labels=test_y.astype(np.uint8),
    )


def train(images: Array, labels: NDArray[np.int64]) -> Weights:
    """Minimise the cross entropy with Adam over randomly shifted images; give the weights."""
    rng = np.random.default_rng(SEED)
    weights = initial_weights(rng)
    adam = Adam(weights)
    batches = len(images) // BATCH
    for epoch in range(EPOCHS):
        order = rng.permutation(len(images))
        for batch in range(batches):
            chosen = order[batch * BATCH : (batch + 1) * BATCH]
            done = (epoch + batch / batches) / EPOCHS
            rate = RATE * 0.5 * (1 + np.cos(np.pi * done))
            adam.step(gradients(weights, shifted(images[chosen], rng), labels[chosen]), rate)
    return weights


def shifted(images: Array, rng: np.random.Generator) -> Array:
    """Move each image by -1, 0 or 1 pixels along both axes, filling with background."""
    padded = np.pad(images, ((0, 0), (0, 0), (1, 1), (1, 1)))
    down, right = rng.integers(0, 3, (2, len(images)))
    return np.stack(
        [p[:, i : i + 8, j : j + 8] for p, i, j in zip(padded, down, right, strict=True)]
    )


def to_onnx(weights: Weights) -> onnx.ModelProto:
    """Spell the network as ONNX: image f32[batch, 1, 8, 8] -> logits f32[batch, 10]."""

    def conv_relu(name: str, x: str) -> list[onnx.NodeProto]:
        return [
            helper.make_node(
                "Conv",
                [x, f"{name}.weight", f"{name}.bias"],
                [f"{name}.out"],
                name=name,
                kernel_shape=[3, 3],
                pads=[1, 1, 1, 1],
            ),
            helper.make_node("Relu", [f"{name}.out"], [f"{name}.relu"], name=f"{name}.relu"),
        ]

    def pool(name: str, x: str) -> onnx.NodeProto:
        return helper.make_node(
            "MaxPool", [x], [name], name=name, kernel_shape=[2, 2], strides=[2, 2]
        )

    def dense(name: str, x: str, out: str) -> onnx.NodeProto:
        operands = [x, f"{name}.weight", f"{name}.bias"]
        return helper.make_node("Gemm", operands, [out], name=name, transB=1)

    nodes = [
        *conv_relu("conv1", "image"),
        *conv_relu("conv2", "conv1.relu"),
        pool("pool2", "conv2.relu"),
        *conv_relu("conv3", "pool2"),
        pool("pool3", "conv3.relu"),
        helper.make_node("Flatten", ["pool3"], ["flat"], name="flatten", axis=1),
        dense("dense1", "flat", "dense1.out"),
        helper.make_node("Relu", ["dense1.out"], ["dense1.relu"], name="dense1.relu"),
        dense("dense2", "dense1.relu", "logits"),
    ]
    graph = helper.make_graph(
        nodes,
        "digits",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 1, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 10])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
        doc_string="Handwritten digits: pixels divided by 16 in, one logit per digit out.",
    )
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=9,
        producer_name="tilewright.tools.demo.build",
    )
    onnx.checker.check_model(model, full_check=True)
    return model


if __name__ == "__main__":
    main()

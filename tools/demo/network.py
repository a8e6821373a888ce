"""The demo's convolutional network in plain numpy: forward, backward and Adam.

Small on purpose, so that the shipped model can be trained again in a minute without a framework.
Shapes: N images, C channels, H and W pixels.

    image[N, 1, 8, 8] -> conv 3x3 (16) -> relu -> conv 3x3 (32) -> relu -> maxpool 2
                      -> conv 3x3 (64) -> relu -> maxpool 2 -> dense 128 -> relu -> logits[N, 10]
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]
Weights = dict[str, Array]


def initial_weights(rng: np.random.Generator) -> Weights:
    """Draw He-normal weights (He et al. 2015) and zero biases."""
    shapes = {
        "conv1": (16, 1, 3, 3),
        "conv2": (32, 16, 3, 3),
        "conv3": (64, 32, 3, 3),
        "dense1": (128, 256),
        "dense2": (10, 128),
    }
    weights: Weights = {}
    for name, shape in shapes.items():
        scale = np.sqrt(2.0 / np.prod(shape[1:]))
        weights[f"{name}.weight"] = (scale * rng.standard_normal(shape)).astype(np.float32)
        weights[f"{name}.bias"] = np.zeros(shape[0], np.float32)
    return weights


def conv(x: Array, weight: Array) -> Array:
    """`out[n, o, h, w] = sum over c, i, j of x[n, c, h+i-1, w+j-1] * weight[o, c, i, j]`."""
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = sliding_window_view(padded, (3, 3), axis=(2, 3))  # [N, C, H, W, 3, 3]
    out: Array = np.tensordot(windows, weight, ((1, 4, 5), (1, 2, 3)))  # [N, H, W, O]
    return np.moveaxis(out, 3, 1)


def conv_weight_gradient(x: Array, grad: Array) -> Array:
    """Derivative of `conv` by its weight, for the derivative `grad` by its result."""
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = sliding_window_view(padded, (3, 3), axis=(2, 3))
    out: Array = np.tensordot(grad, windows, ((0, 2, 3), (0, 2, 3)))
    return out


def conv_input_gradient(weight: Array, grad: Array) -> Array:
    """Derivative of `conv` by its input: a convolution with the turned, transposed kernel."""
    return conv(grad, weight.transpose(1, 0, 2, 3)[:, :, ::-1, ::-1])


def pool(x: Array) -> Array:
    """Largest of each 2x2 block: [N, C, H, W] -> [N, C, H/2, W/2]."""
    n, c, h, w = x.shape
    largest: Array = x.reshape(n, c, h // 2, 2, w // 2, 2).max(axis=(3, 5))
    return largest


def pool_gradient(x: Array, grad: Array) -> Array:
    """Send each block's gradient to its largest entry, in equal parts where several are largest."""
    n, c, h, w = x.shape
    blocks = x.reshape(n, c, h // 2, 2, w // 2, 2)
    largest = (blocks == blocks.max(axis=(3, 5), keepdims=True)).astype(x.dtype)
    share: Array = largest / largest.sum(axis=(3, 5), keepdims=True)
    return (share * grad[:, :, :, None, :, None]).reshape(x.shape)


@dataclass(frozen=True)
class Activations:
    """The values of one forward pass that the backward pass needs."""

    image: Array
    conv1: Array
    conv2: Array
    pool2: Array
    conv3: Array
    flat: Array
    dense1: Array
    logits: Array


def forward(weights: Mapping[str, Array], image: Array) -> Activations:
    """Run the network on `image` f32[N, 1, 8, 8]; `.logits` is f32[N, 10]."""

    def conv_relu(name: str, x: Array) -> Array:
        y: Array = conv(x, weights[f"{name}.weight"]) + weights[f"{name}.bias"][:, None, None]
        return np.maximum(y, 0)

    conv1 = conv_relu("conv1", image)
    conv2 = conv_relu("conv2", conv1)
    pool2 = pool(conv2)
    conv3 = conv_relu("conv3", pool2)
    flat = pool(conv3).reshape(len(image), -1)
    dense1 = np.maximum(flat @ weights["dense1.weight"].T + weights["dense1.bias"], 0)
    logits = dense1 @ weights["dense2.weight"].T + weights["dense2.bias"]
    return Activations(image, conv1, conv2, pool2, conv3, flat, dense1, logits)


def gradients(weights: Mapping[str, Array], image: Array, labels: NDArray[np.int64]) -> Weights:
    """Derivatives of the mean cross entropy over the batch by every weight."""
    a = forward(weights, image)
    odds = np.exp(a.logits - a.logits.max(axis=1, keepdims=True))
    grad = odds / odds.sum(axis=1, keepdims=True)
    grad[np.arange(len(labels)), labels] -= 1
    grad = grad / np.float32(len(labels))

    found: Weights = {}

    def dense(name: str, x: Array, grad: Array) -> Array:
        found[f"{name}.weight"] = grad.T @ x
        found[f"{name}.bias"] = grad.sum(axis=0)
        return grad @ weights[f"{name}.weight"]

    def convolution(name: str, x: Array, y: Array, grad: Array) -> Array:
        grad = grad * (y > 0)
        found[f"{name}.weight"] = conv_weight_gradient(x, grad)
        found[f"{name}.bias"] = grad.sum(axis=(0, 2, 3))
        return conv_input_gradient(weights[f"{name}.weight"], grad)

    grad = dense("dense2", a.dense1, grad) * (a.dense1 > 0)
    grad = dense("dense1", a.flat, grad)
    pooled = (len(image), 64, 2, 2)
    grad = convolution("conv3", a.pool2, a.conv3, pool_gradient(a.conv3, grad.reshape(pooled)))
    grad = convolution("conv2", a.conv1, a.conv2, pool_gradient(a.conv2, grad))
    convolution("conv1", a.image, a.conv1, grad)
    return found


@dataclass
class Adam:
    """Adam (Kingma & Ba 2015) with its usual constants; `step` changes the weights in place."""

    weights: Weights
    mean: Weights = field(init=False)
    square: Weights = field(init=False)
    steps: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self.mean = {name: np.zeros_like(w) for name, w in self.weights.items()}
        self.square = {name: np.zeros_like(w) for name, w in self.weights.items()}

    def step(self, grads: Mapping[str, Array], rate: float) -> None:
        """Move every weight by at most about `rate` against its gradient."""
        self.steps += 1
        fix = np.sqrt(1 - 0.999**self.steps) / (1 - 0.9**self.steps)
        for name, grad in grads.items():
            self.mean[name] += np.float32(0.1) * (grad - self.mean[name])
            self.square[name] += np.float32(0.001) * (grad * grad - self.square[name])
            move = self.mean[name] / (np.sqrt(self.square[name]) + np.float32(1e-8))
            self.weights[name] -= np.float32(rate * fix) * move

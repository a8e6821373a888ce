"""Transformers with random weights as ONNX graphs, of the architectures that are measured on GPUs.

The encoder is BERT (and MiniLM), the decoder is llama-like with grouped heads: rotary positions,
RMSNorm, SwiGLU, tied logits. `transformer_modules` has the same computations for PyTorch.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Array = np.ndarray[Any, Any]
_POSITIONS = 512


@dataclass(frozen=True)
class Encoder:
    """BERT's sizes."""

    name: str
    layers: int
    width: int
    heads: int
    inner: int
    words: int = 30522

    @cache  # noqa: B019  # of few models, whose weights take seconds
    def weights(self) -> dict[str, Array]:
        """By name; products are [in, out]."""
        found = _Weights()
        width = self.width
        found.table("words", self.words, width)
        found.table("positions", _POSITIONS, width)
        found.norm("norm", width)
        for i in range(self.layers):
            for part in ("query", "key", "value", "mixed"):
                found.linear(f"{part}{i}", width, width)
            found.linear(f"inner{i}", width, self.inner)
            found.linear(f"outer{i}", self.inner, width)
            found.norm(f"first{i}", width)
            found.norm(f"second{i}", width)
        return found.arrays


MINILM = Encoder("minilm", 6, 384, 12, 1536)
BERT_BASE = Encoder("bert_base", 12, 768, 12, 3072)


@dataclass(frozen=True)
class Decoder:
    """The sizes of a small code model; `groups` heads of keys and values."""

    name: str = "codelm"
    layers: int = 8
    width: int = 384
    heads: int = 6
    groups: int = 2
    inner: int = 1024
    words: int = 8192
    positions: int = 4096

    @property
    def size(self) -> int:
        """Of a head."""
        return self.width // self.heads

    @cache  # noqa: B019
    def weights(self) -> dict[str, Array]:
        """By name; products are [in, out]. cos and sin are [positions, size / 2]."""
        found = _Weights()
        width, side = self.width, self.groups * self.size
        found.table("words", self.words, width)
        for i in range(self.layers):
            for part, outs in (("query", width), ("key", side), ("value", side), ("mixed", width)):
                found.matrix(f"{part}{i}", width, outs)
            found.matrix(f"gate{i}", width, self.inner)
            found.matrix(f"up{i}", width, self.inner)
            found.matrix(f"down{i}", self.inner, width)
            found.scale(f"first{i}", width)
            found.scale(f"second{i}", width)
        found.scale("last", width)
        half = np.arange(self.size // 2) / (self.size // 2)
        angles = np.arange(self.positions)[:, None] * 10000.0**-half
        found.arrays["cos"] = np.cos(angles).astype(np.float32)
        found.arrays["sin"] = np.sin(angles).astype(np.float32)
        return found.arrays


class _Weights:
    def __init__(self) -> None:
        self.arrays: dict[str, Array] = {}
        self._random = np.random.default_rng(11)

    def _normal(self, name: str, spread: float, *shape: int) -> None:
        self.arrays[name] = self._random.standard_normal(shape, np.float32) * np.float32(spread)

    def table(self, name: str, rows: int, columns: int) -> None:
        self._normal(name, 0.05, rows, columns)

    def matrix(self, name: str, ins: int, outs: int) -> None:
        self._normal(name, ins**-0.5, ins, outs)

    def linear(self, name: str, ins: int, outs: int) -> None:
        self.matrix(name, ins, outs)
        self._normal(f"{name}_bias", 0.02, outs)

    def scale(self, name: str, width: int) -> None:
        self._normal(name, 0.1, width)
        self.arrays[name] += np.float32(1)

    def norm(self, name: str, width: int) -> None:
        self.scale(name, width)
        self._normal(f"{name}_bias", 0.02, width)


class _Graph:
    """Nodes in order; every value has the name of its node."""

    def __init__(self, weights: dict[str, Array]) -> None:
        self.arrays = dict(weights)
        self.nodes: list[onnx.NodeProto] = []

    def add(self, kind: str, *inputs: str, outputs: int = 1, **fields: Any) -> Any:
        made = [f"v{len(self.nodes)}" + (f"_{i}" if i else "") for i in range(outputs)]
        self.nodes.append(helper.make_node(kind, list(inputs), made, made[0], **fields))
        return made[0] if outputs == 1 else made

    def constant(self, value: Any, dtype: type = np.int64) -> str:
        array: Array = np.array(value, dtype)
        name = f"c_{dtype.__name__}_{array.ndim}_" + "_".join(map(str, array.reshape(-1)))
        self.arrays[name] = array
        return name

    def number(self, value: float) -> str:
        return self.constant(value, np.float32)

    def linear(self, x: str, name: str) -> str:
        product: str = self.add("MatMul", x, name)
        bias = f"{name}_bias"
        return str(self.add("Add", product, bias)) if bias in self.arrays else product

    def split(self, x: str, heads: int, size: int) -> str:
        """[b, s, heads * size] to [b, heads, s, size]."""
        made = self.add("Reshape", x, self.constant([0, 0, heads, size]))
        return str(self.add("Transpose", made, perm=[0, 2, 1, 3]))

    def merged(self, x: str, width: int) -> str:
        """The inverse of `split`."""
        made = self.add("Transpose", x, perm=[0, 2, 1, 3])
        return str(self.add("Reshape", made, self.constant([0, 0, width])))

    def attention(self, q: str, k: str, v: str, size: int, mask: str) -> str:
        turned = self.add("Transpose", k, perm=[0, 1, 3, 2])
        scores = self.add("Mul", self.add("MatMul", q, turned), self.number(size**-0.5))
        if mask:
            scores = self.add("Add", scores, mask)
        return str(self.add("MatMul", self.add("Softmax", scores, axis=-1), v))

    def model(self, name: str, inputs: list[Any], outputs: list[Any]) -> onnx.ModelProto:
        tensors = [numpy_helper.from_array(array, key) for key, array in self.arrays.items()]
        graph = helper.make_graph(self.nodes, name, inputs, outputs, tensors)
        imports = [helper.make_opsetid("", 20)]
        return helper.make_model(graph, opset_imports=imports, ir_version=10)


def _ids(name: str, *shape: int | str) -> Any:
    return helper.make_tensor_value_info(name, TensorProto.INT64, list(shape))


def _floats(name: str, *shape: int | str) -> Any:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape))


def encoder_graph(sizes: Encoder) -> onnx.ModelProto:
    """hidden f32[batch, seq, width] of input_ids and attention_mask, i64[batch, seq]."""
    g = _Graph(sizes.weights())
    size = sizes.width // sizes.heads
    seq = g.add("Gather", g.add("Shape", "input_ids"), g.constant([1]), axis=0)
    positions = g.add("Slice", "positions", g.constant([0]), seq, g.constant([0]))
    x = g.add("Add", g.add("Gather", "words", "input_ids"), positions)
    x = g.add("LayerNormalization", x, "norm", "norm_bias", epsilon=1e-12)
    seen = g.add("Cast", "attention_mask", to=TensorProto.FLOAT)
    seen = g.add("Unsqueeze", seen, g.constant([1, 2]))
    hidden = g.add("Sub", g.number(1.0), seen)
    mask = g.add("Mul", hidden, g.number(-10000.0))
    for i in range(sizes.layers):
        q, k, v = (
            g.split(g.linear(x, f"{part}{i}"), sizes.heads, size)
            for part in ("query", "key", "value")
        )
        mixed = g.merged(g.attention(q, k, v, size, mask), sizes.width)
        x = g.add("Add", g.linear(mixed, f"mixed{i}"), x)
        x = g.add("LayerNormalization", x, f"first{i}", f"first{i}_bias", epsilon=1e-12)
        inner = g.add("Gelu", g.linear(x, f"inner{i}"))
        x = g.add("Add", g.linear(inner, f"outer{i}"), x)
        x = g.add("LayerNormalization", x, f"second{i}", f"second{i}_bias", epsilon=1e-12)
    g.nodes[-1].output[0] = "hidden"
    shape = ("batch", "seq")
    inputs = [_ids("input_ids", *shape), _ids("attention_mask", *shape)]
    return g.model(sizes.name, inputs, [_floats("hidden", *shape, sizes.width)])


def decoder_graph(sizes: Decoder, past: bool) -> onnx.ModelProto:
    """logits f32[batch, seq, words] of input_ids; with `past` of one token and the keys and values
    f32[layers, batch, groups, past, size] before it, and these with the new ones too."""
    g = _Graph(sizes.weights())
    size = sizes.size
    x = g.add("Gather", "words", "input_ids")
    shape = g.add("Shape", "past_k" if past else "input_ids")
    begin = g.add("Gather", shape, g.constant([3])) if past else g.constant([0])
    count = g.constant([1]) if past else g.add("Gather", shape, g.constant([1]))
    end = g.add("Add", begin, count) if past else count
    cos, sin = (g.add("Slice", name, begin, end, g.constant([0])) for name in ("cos", "sin"))
    mask = "" if past else _causal(g, count)
    kept: dict[str, list[str]] = {"key": [], "value": []}
    for i in range(sizes.layers):
        rows = _rms(g, x, f"first{i}")
        q = _rotated(g, g.split(g.linear(rows, f"query{i}"), sizes.heads, size), cos, sin)
        k = _rotated(g, g.split(g.linear(rows, f"key{i}"), sizes.groups, size), cos, sin)
        v = g.split(g.linear(rows, f"value{i}"), sizes.groups, size)
        if past:
            layer = g.constant(i)
            k = g.add("Concat", g.add("Gather", "past_k", layer, axis=0), k, axis=2)
            v = g.add("Concat", g.add("Gather", "past_v", layer, axis=0), v, axis=2)
            for part, value in (("key", k), ("value", v)):
                kept[part].append(g.add("Unsqueeze", value, g.constant([0])))
        k, v = (_repeated(g, one, sizes) for one in (k, v))
        mixed = g.merged(g.attention(q, k, v, size, mask), sizes.width)
        x = g.add("Add", x, g.linear(mixed, f"mixed{i}"))
        rows = _rms(g, x, f"second{i}")
        gate = g.linear(rows, f"gate{i}")
        gate = g.add("Mul", gate, g.add("Sigmoid", gate))
        x = g.add("Add", x, g.linear(g.add("Mul", gate, g.linear(rows, f"up{i}")), f"down{i}"))
    rows = _rms(g, x, "last")
    g.add("MatMul", rows, g.add("Transpose", "words", perm=[1, 0]))
    g.nodes[-1].output[0] = "logits"
    outputs = [_floats("logits", "batch", 1 if past else "seq", sizes.words)]
    inputs = [_ids("input_ids", "batch", 1 if past else "seq")]
    for part, name in (("key", "k"), ("value", "v")) if past else ():
        g.add("Concat", *kept[part], axis=0)
        g.nodes[-1].output[0] = f"present_{name}"
        before = (sizes.layers, "batch", sizes.groups)
        inputs.append(_floats(f"past_{name}", *before, "past", size))
        outputs.append(_floats(f"present_{name}", *before, "past + 1", size))
    return g.model(sizes.name, inputs, outputs)


def _causal(g: _Graph, count: str) -> str:
    """[seq, seq]: 0 for what is seen, minus infinity else."""
    length = g.add("Squeeze", count)
    steps = g.add("Range", g.constant(0), length, g.constant(1))
    row, column = (g.add("Unsqueeze", steps, g.constant([axis])) for axis in (1, 0))
    seen = g.add("LessOrEqual", column, row)
    return str(g.add("Where", seen, g.number(0.0), g.number(-np.inf)))


def _rms(g: _Graph, x: str, name: str) -> str:
    mean = g.add("ReduceMean", g.add("Pow", x, g.number(2.0)), g.constant([-1]))
    root = g.add("Sqrt", g.add("Add", mean, g.number(1e-6)))
    return str(g.add("Mul", g.add("Mul", x, g.add("Reciprocal", root)), name))


def _rotated(g: _Graph, x: str, cos: str, sin: str) -> str:
    a, b = g.add("Split", x, outputs=2, axis=-1, num_outputs=2)
    first = g.add("Sub", g.add("Mul", a, cos), g.add("Mul", b, sin))
    second = g.add("Add", g.add("Mul", b, cos), g.add("Mul", a, sin))
    return str(g.add("Concat", first, second, axis=-1))


def _repeated(g: _Graph, x: str, sizes: Decoder) -> str:
    """Keys or values of a group for each of its heads."""
    wide = g.add("Unsqueeze", x, g.constant([2]))
    wide = g.add("Expand", wide, g.constant([1, 1, sizes.heads // sizes.groups, 1, 1]))
    return str(g.add("Reshape", wide, g.constant([0, sizes.heads, -1, sizes.size])))

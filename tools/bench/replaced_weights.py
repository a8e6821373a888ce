"""A model with other weights, in ONNX Runtime: what a structure costs, apart from any kernel."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper

Feeds = Mapping[str, np.ndarray]
Run = Callable[[Feeds], Mapping[str, np.ndarray]]


class Model:
    """An ONNX file; ``run_with`` gives a function that runs it with some initializers replaced."""

    def __init__(self, path: Path) -> None:
        self._proto = onnx.load(path)
        self.outputs = [output.name for output in self._proto.graph.output]

    def run_with(
        self,
        weights: Mapping[str, np.ndarray],
        tables: Mapping[str, np.ndarray] | None = None,
    ) -> Run:
        """weights: by initializer, f32 in its shape. tables: likewise, only where a Gather looks up
        rows."""
        proto = onnx.ModelProto()
        proto.CopyFrom(self._proto)
        for initializer in proto.graph.initializer:
            if initializer.name in weights:
                array = np.ascontiguousarray(weights[initializer.name], np.float32)
                assert list(array.shape) == list(initializer.dims), initializer.name
                initializer.CopyFrom(numpy_helper.from_array(array, initializer.name))
        for name, array in (tables or {}).items():
            own = f"{name}.rows"
            proto.graph.initializer.append(
                numpy_helper.from_array(np.ascontiguousarray(array, np.float32), own)
            )
            for node in proto.graph.node:
                if node.op_type == "Gather" and node.input[0] == name:
                    node.input[0] = own
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(
            proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        return lambda feeds: dict(
            zip(self.outputs, session.run(self.outputs, dict(feeds)), strict=True)
        )


def judged(
    run: Run,
    expected: Sequence[Mapping[str, np.ndarray]],
    samples: Sequence[Feeds],
    tokens: bool = False,
) -> tuple[float, float]:
    """The relative L2 error over samples of the output where it is greatest, and, for `tokens`,
    perplexity (else 0): exp of the mean loss of the next token, the first output [1, T, vocabulary]
    of the only input's T tokens."""
    off: dict[str, float] = {}
    whole: dict[str, float] = {}
    loss, count = 0.0, 0
    for feeds, want in zip(samples, expected, strict=True):
        got = run(feeds)
        for name, value in want.items():
            off[name] = off.get(name, 0.0) + _square(got[name] - value)
            whole[name] = whole.get(name, 0.0) + _square(value)
        if tokens:
            (ids,) = feeds.values()
            logits = next(iter(got.values()))[0, :-1].astype(np.float64)
            most = logits.max(axis=1, keepdims=True)
            sums = most[:, 0] + np.log(np.exp(logits - most).sum(axis=1))
            loss += float((sums - logits[np.arange(len(logits)), ids[0, 1:]]).sum())
            count += len(logits)
    error = max(float(np.sqrt(off[name] / whole[name])) for name in off if whole[name])
    return error, float(np.exp(loss / count)) if tokens else 0.0


def _square(x: np.ndarray) -> float:
    return float(np.einsum("i,i->", x.reshape(-1), x.reshape(-1), dtype=np.float64))

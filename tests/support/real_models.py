"""Real models outside the repository: where they are, feeds for them, and what is measured.

TILEWRIGHT_MODELS is a folder with codelm/, minilm/ and zoo/ (as shared/models/*/export.py write
them); TILEWRIGHT_TOKENS is the .npy file of codelm's held-out token ids.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

import tilewright
from tilewright.backends import reference
from tilewright.compiler.frontend.load import load_onnx

WINDOW = 512
"""Tokens of a window of the perplexity measurement."""

Feeds = dict[str, np.ndarray]

SEEDS = range(3)
MINILM = [(1, 1), (1, 7), (1, 128), (3, 33), (8, 128)]
CASES = {
    "minilm/minilm.onnx": [{"batch": b, "seq": s} for b, s in MINILM],
    "minilm/minilm_b1s128.onnx": [{}],
    "codelm/prefill.onnx": [{"batch": b, "seq": s} for b, s in [(1, 1), (1, 64), (2, 33)]],
    "codelm/decode.onnx": [{"batch": b, "past": p} for b, p in [(1, 1), (1, 5), (1, 128), (3, 40)]],
    "zoo/resnet50.onnx": [{}],
    "zoo/gpt2_s64.onnx": [{}],
    "zoo/bert_base_s128.onnx": [{}],
}


@dataclass(frozen=True)
class Errors:
    """Means over inputs of relative L2 errors against float64, ours and ONNX Runtime's."""

    sizes: Mapping[str, int]
    output: int
    ours: float
    peers: float


def model(name: str) -> Path:
    """The path of a real model; skips the test where there is none."""
    folder = os.environ.get("TILEWRIGHT_MODELS")
    if not folder:
        pytest.skip("TILEWRIGHT_MODELS is not set: no real models")
    path = Path(folder) / name
    if not path.exists():
        pytest.skip(f"no {path}")
    return path


def tokens() -> np.ndarray:
    """codelm's held-out token ids, i64; skips the test where there are none."""
    path = os.environ.get("TILEWRIGHT_TOKENS")
    if not path:
        pytest.skip("TILEWRIGHT_TOKENS is not set: no held-out tokens")
    return np.load(path).astype(np.int64)


def peer(path: Path, threads: int = 1) -> ort.InferenceSession:
    """ONNX Runtime on the CPU."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def random_feeds(session: ort.InferenceSession, sizes: Mapping[str, int], seed: int) -> Feeds:
    """Token ids, masks (all ones, the tail of the last row hidden) and normal floats."""
    rng = np.random.default_rng(seed)
    feeds: Feeds = {}
    for node in session.get_inputs():
        shape = [sizes[d] if isinstance(d, str) else d for d in node.shape]
        if node.type != "tensor(int64)":
            feeds[node.name] = rng.standard_normal(shape).astype(np.float32)
        elif "mask" in node.name:
            feeds[node.name] = np.ones(shape, np.int64)
            feeds[node.name][-1, max(1, shape[1] * 3 // 4) :] = 0
        elif "type" in node.name:
            feeds[node.name] = np.zeros(shape, np.int64)
        else:
            feeds[node.name] = rng.integers(0, 8000, shape)
    return feeds


def relative_l2(found: np.ndarray, want: np.ndarray) -> float:
    """The norm of the difference over the norm of `want`."""
    wide = want.astype(np.float64)
    return float(np.linalg.norm(found.astype(np.float64) - wide) / np.linalg.norm(wide))


def perplexity(
    logits: Callable[[np.ndarray], np.ndarray], ids: np.ndarray, windows: range
) -> float:
    """exp of the mean next-token loss over windows of 512 tokens.

    `logits` maps i64[1, 512] token ids to f32[1, 512, vocabulary].
    """
    total = count = 0.0
    for j in windows:
        part = ids[WINDOW * j : WINDOW * j + WINDOW + 1]
        scores = logits(part[None, :-1])[0].astype(np.float64)
        scores -= scores.max(axis=1, keepdims=True)
        norm = np.log(np.exp(scores).sum(axis=1))
        total += float((norm - scores[np.arange(WINDOW), part[1:]]).sum())
        count += WINDOW
    return float(np.exp(total / count))


def errors(name: str, artifact: Path) -> list[Errors]:
    """Of every output of a model of CASES at every size; printed too."""
    theirs, graph = peer(model(name)), load_onnx(model(name), {})
    report = []
    with tilewright.load(artifact) as ours:
        for sizes in CASES[name]:
            found = []
            for seed in SEEDS:
                feeds = random_feeds(theirs, sizes, seed)
                want = reference.run(graph, feeds, precision="f64")
                mine, other = ours.run(None, feeds), theirs.run(None, feeds)
                pairs = zip(mine, other, want, strict=True)
                found.append([(relative_l2(a, w), relative_l2(b, w)) for a, b, w in pairs])
            means = np.mean(found, axis=0)
            report += [Errors(sizes, i, *map(float, pair)) for i, pair in enumerate(means)]
    print(name)
    for row in report:
        print(f"  {row.sizes} output {row.output}: {row.ours:.3e}, ONNX Runtime {row.peers:.3e}")
    return report

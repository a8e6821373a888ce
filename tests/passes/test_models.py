"""What the default pipeline makes of real models, and that it keeps their numbers.

The models lie in the folder that TILEWRIGHT_MODELS names (codelm/, minilm/, zoo/).
"""

import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from tilewright.backends.reference import evaluate_op, run
from tilewright.compiler.frontend.load import load_onnx
from tilewright.compiler.ir.core import Graph, walk
from tilewright.compiler.ir.ops.contraction import Conv
from tilewright.compiler.ir.ops.nn import Attention
from tilewright.passes.op_sets import ELEMENTWISE
from tilewright.passes.pipelines import PIPELINES, Step, run_pipeline

SECONDS = 5.0
"""Far above what a pass needs (tens of milliseconds); catches quadratic mistakes only."""


def load(name: str) -> Graph:
    folder = os.environ.get("TILEWRIGHT_MODELS")
    if folder is None:
        pytest.skip("TILEWRIGHT_MODELS names no folder of models")
    path = Path(folder) / f"{name}.onnx"
    if not path.exists():
        pytest.skip(f"{path} is absent")
    return load_onnx(path)


def compiled(graph: Graph, pipeline: str = "default") -> Graph:
    def check(step: Step) -> None:
        assert step.seconds < SECONDS, step

    return run_pipeline(graph, PIPELINES[pipeline], check, lambda op, a: evaluate_op(op, a, {}))


def counts(graph: Graph) -> Counter[str]:
    """Operations by name; those in bodies too."""
    return Counter(op.opname for op in walk(graph.ops))


def assert_same(before: Graph, after: Graph, feeds: list[np.ndarray]) -> None:
    for want, got in zip(run(before, feeds), run(after, feeds), strict=True):
        assert got.shape == want.shape
        error = np.linalg.norm((got - want).ravel()) / np.linalg.norm(want.ravel())
        assert error < 2e-6


def assert_elementwise_is_fused(graph: Graph) -> None:
    assert [op.opname for op in graph.ops if type(op) in ELEMENTWISE] == []


def attentions(graph: Graph) -> list[Attention]:
    return [op for op in graph.ops if isinstance(op, Attention)]


def test_minilm() -> None:
    before = load("minilm/minilm")
    after = compiled(before)
    found = counts(after)
    assert found["attention"] == 6
    assert found["layer_norm"] == 13
    assert found["gelu"] == 6
    assert found["contract"] == 6 * 4  # projections merged, then output, up, down
    assert found["transpose"] == found["softmax"] == 0
    assert all(a.masked_zero and a.mask is not None for a in attentions(after))
    assert_elementwise_is_fused(after)
    rng = np.random.default_rng(0)
    mask = np.ones((2, 7), np.int64)
    mask[1, 4:] = 0
    assert_same(before, after, [rng.integers(0, 30000, (2, 7)), mask, np.zeros((2, 7), np.int64)])


def test_codelm_prefill() -> None:
    before = load("codelm/prefill")
    after = compiled(before)
    found = counts(after)
    assert found["rms_norm"] == 17
    assert found["rope"] == 16
    assert found["silu"] == 8
    assert len(attentions(after)) == 8
    assert all(a.causal and a.mask is None for a in attentions(after))
    assert all(a.sizes()["h"] == 6 and a.sizes()["g"] == 2 for a in attentions(after))
    assert found["transpose"] == found["broadcast"] == 0
    assert_elementwise_is_fused(after)
    assert_same(before, after, [np.random.default_rng(0).integers(0, 8000, (2, 5))])


def test_codelm_decode() -> None:
    before = load("codelm/decode")
    after = compiled(before)
    found = counts(after)
    assert (found["rms_norm"], found["rope"], found["silu"]) == (17, 16, 8)
    assert len(attentions(after)) == 8
    assert all(a.sizes()["h"] == 6 and a.sizes()["g"] == 2 for a in attentions(after))
    assert_elementwise_is_fused(after)
    rng = np.random.default_rng(0)
    past = [rng.standard_normal((8, 2, 2, 6, 64)).astype(np.float32) for _ in range(2)]
    assert_same(before, after, [rng.integers(0, 8000, (2, 1)), *past])


def test_gpt2() -> None:
    before = load("zoo/gpt2_s64")
    after = compiled(before)
    found = counts(after)
    assert len(attentions(after)) == 12
    assert all(a.causal and a.mask is None for a in attentions(after))
    assert found["gelu_tanh"] == 12
    assert found["layer_norm"] == 25
    assert found["tanh"] == found["transpose"] == 0
    assert_elementwise_is_fused(after)


@pytest.mark.slow
def test_gpt2_numbers() -> None:
    before = load("zoo/gpt2_s64")
    assert_same(before, compiled(before), [np.random.default_rng(0).integers(0, 50000, (1, 64))])


def test_bert() -> None:
    after = compiled(load("zoo/bert_base_s128"))
    found = counts(after)
    assert (found["attention"], found["gelu"], found["layer_norm"]) == (12, 12, 25)
    assert all(a.mask is None for a in attentions(after))  # the mask is constant and hides nothing
    assert_elementwise_is_fused(after)


def test_resnet50() -> None:
    after = compiled(load("zoo/resnet50"))
    found = counts(after)
    convs = [op for op in after.ops if isinstance(op, Conv)]
    assert len(convs) == 53
    # All but the four shortcuts, which are added by the convolution beside them.
    assert sum(op.body is not None for op in convs) == 49
    assert found["relu"] == 49
    assert found["add"] == 16 + 1  # residuals, and the bias of the classifier
    assert found["transpose"] == 1
    assert_elementwise_is_fused(after)


@pytest.mark.slow
def test_resnet50_numbers() -> None:
    before = load("zoo/resnet50")
    image = np.random.default_rng(0).standard_normal((1, 3, 224, 224)).astype(np.float32)
    assert_same(before, compiled(before), [image])

"""f16 graphs, widened: vectorized kernels on every target, and f16 filters where they may pay."""

from pathlib import Path

import numpy as np
import pytest
from support.compiled_graph import build, check_graph, run_artifact
from support.draft_graph import Draft, tensor, weights

from tilewright.backends.kernels.f16_conv import HalfConvTask
from tilewright.backends.kernels.f16_matmul import HalfMatmulTask
from tilewright.backends.llvm.lowering.lower import lower
from tilewright.backends.reference import run
from tilewright.backends.target import TARGETS, runs_here
from tilewright.compiler.ir.core import Graph, Value
from tilewright.compiler.ir.ops.binary import Add, Mul
from tilewright.compiler.ir.ops.contraction import Contract, Conv
from tilewright.compiler.ir.ops.unary import Cast, Relu
from tilewright.compiler.ir.types import DType
from tilewright.passes.pipelines import run_pipeline

ROWS = ({"m": 5}, {"m": 1}, {"m": 0}, {"m": 33})
ROWS_OF = [
    pytest.param(t, id=t.name, marks=pytest.mark.skipif(not runs_here(t), reason="other machine"))
    for t in (TARGETS[name] for name in ("x86-64-v3", "x86-64-v4", "sapphirerapids"))
]


def half(*shape: int, seed: int = 0) -> np.ndarray:
    return weights(*shape, seed=seed).astype(np.float16)


def wide(graph: Graph) -> Graph:
    return run_pipeline(graph, ["widen-halves", "fuse-epilogues"])


def matmul(spec: str = "mk,kn->mn") -> Graph:
    d = Draft()
    shape = (70, 40) if ",kn" in spec else (40, 70)
    return d.graph(
        d(Contract, a=d.input("a", "f16", "m", 70), b=d.constant(half(*shape)), spec=spec)
    )


def conv(groups: int = 1) -> Graph:
    d = Draft((1, 8))
    x, w = d.input("x", "f16", "n", 9, 7, 12), d.constant(half(3, 3, 12 // groups, 36))
    y = d(Conv, x=x, w=w, strides=(2, 1), pads_low=(1, 1), pads_high=(1, 1), dilations=(1, 1),
          groups=groups)  # fmt: skip
    return d.graph(d(Relu, x=y))


@pytest.mark.parametrize("target", ROWS_OF)
@pytest.mark.parametrize("spec", ["mk,kn->mn", "mk,nk->mn", "mk,kn->nm"])
def test_a_matmul_has_kernels_with_f16_weights(spec: str, target) -> None:
    low = check_graph(wide(matmul(spec)), *ROWS, special=False, target=target)
    (question,) = low.state.choices.questions
    assert isinstance(question.task, HalfMatmulTask)
    families = {c.family.name for c in question.candidates}
    assert {"f16_matmul", "f32_matmul"} <= families
    assert families & {launch.label for launch in low.launches}


@pytest.mark.parametrize("target", ROWS_OF)
@pytest.mark.parametrize("groups", [1, 3, 12])
def test_a_convolution_has_kernels_with_f16_filters(groups: int, target) -> None:
    low = check_graph(wide(conv(groups)), {"n": 2}, {"n": 1}, special=False, target=target)
    (question,) = low.state.choices.questions
    assert isinstance(question.task, HalfConvTask)
    families = {c.family.name for c in question.candidates}
    assert {"f16_conv", "f32_conv"} <= families
    assert families & {launch.label for launch in low.launches}
    assert "conv" not in {launch.label for launch in low.launches}


def test_a_depthwise_convolution_has_no_f16_kernel() -> None:
    d = Draft((1, 8))
    x, w = d.input("x", "f16", "n", 9, 40), d.constant(half(3, 1, 40))
    y = d(Conv, x=x, w=w, strides=(1,), pads_low=(1,), pads_high=(1,), dilations=(1,), groups=40)
    low = check_graph(wide(d.graph(y)), {"n": 2}, special=False)
    assert [launch.label for launch in low.launches if "conv" in launch.label] == ["f32_conv"]


def test_weights_that_are_no_f16_numbers_stay_f32() -> None:
    d = Draft()
    b = half(70, 40).astype(np.float32)
    b[69, 39] = np.float32(0.1)
    graph = d.graph(d(Contract, a=d.input("a", "f32", "m", 70), b=d.constant(b), spec="mk,kn->mn"))
    low = lower(graph, TARGETS["sapphirerapids"])
    (question,) = low.choices.questions
    assert not isinstance(question.task, HalfMatmulTask)
    assert not any(c.family.name.startswith("f16") for c in question.candidates)


def test_bias_activation_and_residual_are_fused() -> None:
    d = Draft()
    a, residual = d.input("a", "f16", "m", 48), d.input("r", "f16", "m", 40)
    bias = d.constant(half(40, seed=1))

    def body(acc: Value, b: Value, r: Value) -> Value:
        half = d.constant(np.float32(0.5))
        return d(Add, a=d(Mul, a=d(Relu, x=d(Add, a=acc, b=b)), b=half), b=r)

    types = [tensor("f32", "m", 40), tensor("f32", 40), tensor("f32", "m", 40)]
    region = d.region(types, body)
    w = d.constant(half(48, 40).astype(np.float32))
    left, right, bias = (d(Cast, x=v, dtype=DType.F32) for v in (a, residual, bias))
    y = d(Contract, a=left, b=w, spec="mk,kn->mn", extras=(bias, right), body=region)
    low = check_graph(d.graph(y), *ROWS, special=False)
    assert [launch.label for launch in low.launches if "matmul" in launch.label] != []
    assert low.state.choices.questions[0].task.epilogue.steps != ()


def test_rounded_outputs_hide_products_of_two_parts() -> None:
    target = TARGETS["sapphirerapids"]
    classes = {}
    for dtype in (DType.F16, DType.F32):
        d = Draft((128, 256))
        a, b = d.input("a", "f32", "m", 384), d.constant(half(384, 384).astype(np.float32))
        y = d(Contract, a=a, b=b, spec="mk,kn->mn")
        y = d(Cast, x=y, dtype=DType.F16) if dtype == DType.F16 else y
        (question,) = lower(d.graph(y), target).choices.questions
        classes[dtype] = max(c.accuracy for c in question.candidates)
    assert classes == {DType.F16: 1e-5, DType.F32: 0.0}


def test_only_the_output_is_rounded(tmp_path: Path) -> None:
    d = Draft((1, 64))
    x = d.input("x", "f16", "m", 96)
    y = d(Relu, x=d(Contract, a=x, b=d.constant(half(96, 200)), spec="mk,kn->mn"))
    y = d(Add, a=d(Contract, a=y, b=d.constant(half(200, 96, seed=1)), spec="mk,kn->mn"), b=x)
    graph = wide(d.graph(y))
    build(graph, tmp_path / "two.tw")
    given = [np.random.default_rng(0).standard_normal((40, 96)).astype(np.float16)]
    (exact,) = run(graph, given, precision="f64")
    (got,) = run_artifact(tmp_path / "two.tw", graph, given)
    error = np.linalg.norm(got - exact)
    assert 0 < error <= 1.01 * np.linalg.norm(exact.astype(np.float16) - exact)

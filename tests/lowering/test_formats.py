"""Values handed on in bf16: the same results as in f32, chosen as an exhaustive search would."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from support.compiled_graph import run_artifact
from support.draft_graph import Draft, weights

from tilewright.backends.artifact.package import Variant, write_package
from tilewright.backends.artifact.selection_report import selection_report
from tilewright.backends.llvm import backend, codegen
from tilewright.backends.llvm.lowering.choice import Question
from tilewright.backends.llvm.lowering.format_prices import FormatNode, format_nodes
from tilewright.backends.llvm.lowering.handing import ALONE, BOTH, ROUNDED, STRATEGIES
from tilewright.backends.llvm.lowering.lower import lower
from tilewright.backends.llvm.lowering.pricing import points, price
from tilewright.backends.llvm.lowering.select import Selecting
from tilewright.backends.llvm.lowering.tables import Tables, tables
from tilewright.backends.profile import profile_for
from tilewright.backends.target import TARGETS, runs_here
from tilewright.compiler.driver import lower_for
from tilewright.compiler.ir.core import Graph
from tilewright.compiler.ir.ops import binary, shape, unary
from tilewright.compiler.ir.ops.contraction import Contract, Conv
from tilewright.compiler.ir.ops.nn import Attention, LayerNorm
from tilewright.passes.selection.exhaustive import solve_exhaustively
from tilewright.passes.selection.tables import as_problem, solve_tables

_compiled = cache(codegen.compile_kernel)
AMX = TARGETS["sapphirerapids"]
needs_amx = pytest.mark.skipif(not runs_here(AMX), reason="this machine has no AMX")


def chain(count: int, m: int = 64, width: int = 64) -> Graph:
    """x[m, width] through `count` matrices."""
    d = Draft()
    x = d.input("x", "f32", m, width)
    for i in range(count):
        x = d(Contract, a=x, b=d.constant(weights(width, width, seed=i)), spec="mk,kn->mn")
    return d.graph(x)


def block(inner: int = 96) -> Graph:
    """A normalization that a product and a sum read, and a product's result seen transposed."""
    d = Draft((1, 64))
    x = d.input("x", "f32", "m", 64)
    scale, bias = d.constant(weights(64)), d.constant(weights(64, seed=1))
    x = d(LayerNorm, x=x, scale=scale, bias=bias, axis=1, eps=1e-5)
    h = d(Contract, a=x, b=d.constant(weights(64, inner)), spec="mk,kn->mn")
    h = d(unary.Gelu, x=h)
    h = d(Contract, a=h, b=d.constant(weights(inner, 33, seed=2)), spec="mk,kn->nm")
    h = d(shape.Transpose, x=h, perm=(1, 0))
    h = d(Contract, a=h, b=d.constant(weights(33, 64, seed=3)), spec="mk,kn->mn")
    h = d(Contract, a=h, b=d.constant(weights(64, 64, seed=4)), spec="mk,kn->mn")
    return d.graph(d(binary.Add, a=h, b=x))


def attention(heads: int = 2, size: int = 40) -> Graph:
    """One product's parts as Q, K and V, attention, and a product of its result."""
    d = Draft((1, 64))
    x = d.input("x", "f32", 1, "m", 64)
    width = heads * size
    h = d(Contract, a=x, b=d.constant(weights(64, 3 * width) / np.float32(8)), spec="bmk,kn->bmn")
    parts = []
    for i in range(3):
        starts, full = (0, 0, i * width), (1, x.shape[1], width)
        part = d(shape.Slice, x=h, starts=starts, steps=(1, 1, 1), shape=full)
        parts.append(d(shape.Reshape, x=part, shape=(1, x.shape[1], heads, size)))
    axes = {"q_axes": "bqhd", "k_axes": "bkgd", "v_axes": "bkge", "out_axes": "bqhe"}
    q, k, v = parts
    h = d(Attention, q=q, k=k, v=v, scale=size**-0.5, **axes)
    h = d(shape.Reshape, x=h, shape=(1, x.shape[1], width))
    return d.graph(d(Contract, a=h, b=d.constant(weights(width, 64)), spec="bmk,kn->bmn"))


def exact_attention(x: np.ndarray, heads: int = 2, size: int = 40) -> np.ndarray:
    """What `attention` computes, of one batch element."""
    width = heads * size
    first, last = weights(64, 3 * width) / np.float32(8), weights(width, 64)
    q, k, v = np.split((x @ first).reshape(len(x), 3 * heads, size), 3, axis=1)
    scores = np.einsum("qhd,khd->hqk", q, k) * size**-0.5
    power = np.exp(scores - scores.max(-1, keepdims=True))
    power /= power.sum(-1, keepdims=True)
    return np.einsum("hqk,khe->qhe", power, v).reshape(len(x), width) @ last


def convolutions() -> Graph:
    """3x3, 1x1 and 3x3 with stride 2, of which one goes out too."""
    d = Draft()
    x = d.input("x", "f32", 1, 9, 11, 32)
    out = []
    for i, (taps, stride) in enumerate(((3, 1), (1, 1), (3, 1), (3, 2))):
        w = d.constant(weights(taps, taps, 32, 32, seed=i))
        pad = (taps // 2,) * 2
        x = d(Conv, x=x, w=w, strides=(stride,) * 2, pads_low=pad, pads_high=pad, dilations=(1, 1))
        out.append(x)
    return d.graph(out[-1], d(unary.Relu, x=out[1]))


def forced(wanted: tuple[str, ...]) -> Callable[[Tables], Sequence[int]]:
    """A solver that takes each kernel's fastest and `wanted` formats wherever they are allowed,
    else f32 beside them."""

    def solve(problem: Tables) -> Sequence[int]:
        values = {nodes[1] for nodes, _ in problem.edges}
        chosen = []
        for node, costs in enumerate(problem.costs):
            j = STRATEGIES.index(wanted) if node in values else costs.index(min(costs))
            offered = j < len(costs) and np.isfinite(costs[j])
            chosen.append(j if offered else STRATEGIES.index(BOTH))
        return chosen

    return solve


class Rounding:
    """Measured times that make kernels with one bf16 product the fastest."""

    def seconds(self, candidate: object, dims: tuple[int, ...], cold: bool) -> float:
        spec = candidate.spec  # type: ignore[attr-defined]
        direct = candidate.family.name != "bf16_conv"  # type: ignore[attr-defined]
        return 1.0 if getattr(spec, "products", 0) == 1 and direct else 2.0


def build(graph: Graph, wanted: tuple[str, ...], path: Path) -> Path:
    """An artifact whose values are stored in the formats that are wanted."""
    how = Selecting(solve=forced(wanted), measured=Rounding())
    lowered, plan = lower_for(graph, AMX, 1e-2, how=how)
    with patch.object(codegen, "compile_kernel", _compiled):
        image, tiers = backend.build(lowered, jobs=0)
    write_package(path, graph.name, [Variant(lowered, image, plan, tiers)], lowered.weights, [])
    return path


def check(graph: Graph, feeds: Sequence[list[np.ndarray]], folder: Path) -> None:
    """Equal bits in all formats."""
    made = {w: build(graph, w, folder / f"{'-'.join(w)}.tw") for w in STRATEGIES}
    for arrays in feeds:
        plain = run_artifact(made[ALONE], graph, arrays)
        for wanted in (ROUNDED, BOTH):
            for got, want in zip(run_artifact(made[wanted], graph, arrays), plain, strict=True):
                np.testing.assert_array_equal(got, want)


def launched(graph: Graph, wanted: tuple[str, ...]) -> list[str]:
    """The formats of the activations and results of the products."""
    how = Selecting(solve=forced(wanted), measured=Rounding())
    specs = [step.spec for step in lower(graph, AMX, 1e-2, how).program.steps]
    return [f"{s.a}>{s.c}" for s in specs if hasattr(s, "products") and hasattr(s, "a")]


@needs_amx
def test_a_transformer_block_has_the_same_bits(tmp_path: Path) -> None:
    graph, feeds = block(), []
    for m in (1, 3, 16, 33, 50):
        x = np.random.default_rng(m).standard_normal((m, 64)).astype(np.float32)
        x[0, 3] = 1e-40
        if m > 2:
            x[1, 5], x[2, 7] = np.inf, np.nan
        feeds.append([x])
    check(graph, feeds, tmp_path)


def test_every_product_that_may_reads_and_writes_bf16() -> None:
    assert launched(block(), ALONE) == ["f32>f32"] * 4
    assert launched(block(), ROUNDED) == ["bf16>f32", "bf16>bf16", "bf16>bf16", "bf16>f32"]
    assert launched(block(), BOTH) == ["bf16>f32"] * 4
    assert launched(chain(3), ROUNDED) == ["f32>bf16", "bf16>bf16", "bf16>f32"]


@needs_amx
def test_convolutions_have_the_same_bits(tmp_path: Path) -> None:
    x = np.random.default_rng(0).standard_normal((1, 9, 11, 32)).astype(np.float32)
    check(convolutions(), [[x]], tmp_path)


@needs_amx
def test_attention_reads_and_writes_bf16(tmp_path: Path) -> None:
    """Its queries are rounded before they are scaled, not after."""
    graph = attention()
    specs = [
        step.spec
        for step in lower(
            graph, AMX, 1e-2, Selecting(solve=forced(ROUNDED), measured=Rounding())
        ).program.steps
    ]
    found = [(s.q, s.k, s.v, s.y) for s in specs if hasattr(s, "head_dim")]
    assert found == [("bf16",) * 4]
    made = {w: build(graph, w, tmp_path / f"{'-'.join(w)}.tw") for w in (ALONE, ROUNDED)}
    for m in (1, 5, 40):
        x = np.random.default_rng(m).standard_normal((1, m, 64)).astype(np.float32)
        want = exact_attention(x.astype(np.float64)[0])
        errors = {}
        for formats, path in made.items():
            (got,) = run_artifact(path, graph, [x])
            errors[formats] = np.linalg.norm(got[0] - want) / np.linalg.norm(want)
        assert errors[ROUNDED] < 1e-2
        assert errors[ROUNDED] < 1.5 * errors[ALONE] + 1e-4


def test_the_arena_takes_sizes_as_they_are_stored() -> None:
    sizes = [
        max(b.bytes for b in lower(chain(3), AMX, 1e-2, how).program.buffers)
        for how in (
            Selecting(solve=forced(ALONE), measured=Rounding()),
            Selecting(solve=forced(ROUNDED), measured=Rounding()),
        )
    ]
    assert sizes == [64 * 64 * 4, 64 * 64 * 2]


def test_float32_results_stay_as_they_were() -> None:
    """Below the accuracy class of bf16 no value may be rounded."""
    for error in (None, 1e-5, 1e-3):
        low = lower(block(), AMX, error, Selecting(solve=solve_tables))
        assert low.selection is not None
        assert not low.selection.values


def problem(count: int) -> tuple[list[Question], list[FormatNode], Tables]:
    """Of a chain, four candidates each: f32, one product in bf16, six, and six split."""
    low = lower(chain(count, m=128, width=256), AMX, 1e-2)
    rng = np.random.default_rng(count)
    questions = []
    for question in low.choices.questions:
        every = {
            getattr(c.spec, "products", 0) + len(c.family.name) / 100: c
            for c in question.candidates
        }
        four = [every[key] for key in sorted(every)][:4]
        questions.append(replace(question, candidates=tuple(four)))
    profile = profile_for(AMX)
    envs = points(questions, low.graph.symbols, {})
    prices = price(questions, envs, AMX, profile, True)
    # Kernels at prices that differ by no more than what formats are worth.
    near = [[t[0] * 0 + rng.uniform(1, 1.3) * 1e-5 for t in row] for row in prices.seconds]
    prices = replace(prices, seconds=tuple(tuple((t,) for t in row) for row in near))
    values = format_nodes(low, questions, prices, profile, True, 1)
    return questions, values, tables(questions, prices, None, {}, values)


def cost(problem_: Tables, choice: Sequence[int]) -> float:
    return as_problem(problem_, None).cost(choice)


def test_the_solver_finds_what_trying_everything_finds() -> None:
    for count in (2, 3, 4):
        _, values, made = problem(count)
        assert len(values) == count - 1
        found = solve_exhaustively(as_problem(made, None))
        assert found is not None
        assert cost(made, solve_tables(made)) == pytest.approx(found[1], rel=1e-9)


def test_ten_products_and_the_values_between_them() -> None:
    """All 4**10 choices of kernels, each with the best format of every value between two."""
    questions, values, made = problem(10)
    assert [len(q.candidates) for q in questions] == [4] * 10
    assert len(values) == 9
    total = np.zeros((4,) * 10)
    for i in range(10):
        total += np.reshape(made.costs[i], [4 if a == i else 1 for a in range(10)])
    for value in values:
        (reader, reads), (maker, makes) = value.edges
        both = np.asarray(makes)[:, None, :] + np.asarray(reads)[None, :, :] + value.costs
        assert reader == maker + 1
        total += both.min(-1).reshape([4 if a in (maker, reader) else 1 for a in range(10)])
    best = cost(made, solve_tables(made))
    assert best == pytest.approx(float(total.min()), rel=1e-9)
    alone = sum(min(costs) for costs in made.costs[:10])
    assert best < alone, "no value is worth handing on"


def test_the_report_says_in_which_formats_and_why() -> None:
    low = lower(block(), AMX, 1e-2, Selecting({"m": 64}, solve=solve_tables))
    report = selection_report(low)
    assert report is not None
    found = {tuple(value["formats"]): value for value in report["values"]}
    assert found
    for formats, value in found.items():
        assert set(value) >= {"name", "shape", "formats", "readers", "costs", "reason"}
        assert formats in STRATEGIES

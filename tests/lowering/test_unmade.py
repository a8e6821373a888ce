"""Normalized values that are never written: the same bits, offered and chosen where right."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from support.compiled_graph import run_artifact
from support.draft_graph import Draft, weights

from tilewright.backends.artifact.package import Variant, write_package
from tilewright.backends.artifact.selection_report import selection_report
from tilewright.backends.llvm import backend, codegen
from tilewright.backends.llvm.lowering.format_prices import FormatNode, format_nodes
from tilewright.backends.llvm.lowering.handing import ALONE, BOTH, STRATEGIES
from tilewright.backends.llvm.lowering.lower import lower
from tilewright.backends.llvm.lowering.pricing import points, price
from tilewright.backends.llvm.lowering.select import Selecting
from tilewright.backends.llvm.lowering.tables import Tables, tables
from tilewright.backends.llvm.lowering.unmade import UNMADE
from tilewright.backends.llvm.region.spec import RegionSpec
from tilewright.backends.profile import profile_for
from tilewright.backends.target import TARGETS, runs_here
from tilewright.compiler.driver import lower_for
from tilewright.compiler.ir.core import Graph, Region, Value
from tilewright.compiler.ir.ops import binary, shape, unary
from tilewright.compiler.ir.ops.contraction import Contract
from tilewright.compiler.ir.ops.control import Fused
from tilewright.compiler.ir.ops.nn import LayerNorm, RmsNorm
from tilewright.passes.quantization.planned import Planned
from tilewright.passes.selection.exhaustive import solve_exhaustively
from tilewright.passes.selection.tables import as_problem, solve_tables

_compiled = cache(codegen.compile_kernel)
AMX = TARGETS["sapphirerapids"]
needs_amx = pytest.mark.skipif(not runs_here(AMX), reason="this machine has no AMX")
AT = STRATEGIES.index(UNMADE)


def layer_norm(d: Draft, x: Value, seed: int = 0) -> Value:
    width = x.shape[-1]
    scale, bias = d.constant(weights(width, seed=seed)), d.constant(weights(width, seed=seed + 1))
    return d(LayerNorm, x=x, scale=scale, bias=bias, axis=x.rank - 1, eps=1e-5)


def rms_norm(d: Draft, x: Value, seed: int = 0) -> Value:
    """As fusion leaves it: a body of one operation."""
    scale = d.constant(weights(x.shape[-1], seed=seed))
    params = tuple(Value(v.type, name) for v, name in ((x, "x"), (scale, "scale")))
    op = RmsNorm(x=params[0], scale=params[1], axis=x.rank - 1, eps=1e-6)
    return d(Fused, inputs=(x, scale), body=Region(params, (op,), (op.out,)))


def product(d: Draft, x: Value, columns: int, seed: int = 0) -> Value:
    w = weights(x.shape[-1], columns, seed=seed) / np.float32(8)
    spec = "bmk,kn->bmn" if x.rank == 3 else "mk,kn->mn"
    return d(Contract, a=x, b=d.constant(w), spec=spec)


def pre_norm(width: int = 64, blocks: int = 1) -> Graph:
    """x + product(gelu(product(norm(x)))), as in GPT-2."""
    d = Draft((1, 64))
    x = d.input("x", "f32", "m", width)
    for i in range(blocks):
        h = product(d, layer_norm(d, x, 7 * i), 96, 7 * i + 2)
        h = product(d, d(unary.Gelu, x=h), width, 7 * i + 3)
        x = d(binary.Add, a=x, b=h)
    return d.graph(x)


def several(width: int = 45) -> Graph:
    """Three products of one RMS norm, and one of a layer norm of the first, whose rows they see
    through another shape."""
    d = Draft((1, 64))
    x = d.input("x", "f32", 1, "m", width)
    x = product(d, x, width, 9)
    normed = rms_norm(d, x)
    parts = [product(d, normed, n, n) for n in (33, 64, 300)]
    last = layer_norm(d, parts[1], 5)
    flat = d(shape.Reshape, x=last, shape=(x.shape[1], 64))
    return d.graph(parts[0], parts[2], product(d, flat, 40, 4), x)


def post_norm() -> Graph:
    """What is normalized goes to a product and to the sum after it, as in BERT."""
    d = Draft((1, 64))
    x = d.input("x", "f32", "m", 64)
    x = layer_norm(d, product(d, x, 64))
    return d.graph(d(binary.Add, a=x, b=product(d, x, 64, 3)))


def halves() -> Graph:
    """A product of half rows of what is normalized."""
    d = Draft((1, 64))
    x = layer_norm(d, product(d, d.input("x", "f32", "m", 64), 64))
    return d.graph(product(d, d(shape.Reshape, x=x, shape=(x.shape[0], 2, 32)), 40, 2))


def forced(wanted: tuple[str, ...], rightly: bool = True) -> Callable[[Tables], Sequence[int]]:
    """A solver that takes a bf16 kernel and `wanted` formats, where they are allowed or anyway."""

    def solve(problem: Tables) -> Sequence[int]:
        values = {nodes[1] for nodes, _ in problem.edges}
        chosen = []
        for node, costs in enumerate(problem.costs):
            j = STRATEGIES.index(wanted) if node in values else costs.index(min(costs))
            offered = j < len(costs) and (np.isfinite(costs[j]) or not rightly)
            chosen.append(j if offered else STRATEGIES.index(BOTH))
        return chosen

    return solve


class Rounding:
    """Measured times that make bf16_matmul with one product the fastest."""

    def seconds(self, candidate: Any, dims: tuple[int, ...], cold: bool) -> float:
        return 1.0 if getattr(candidate.spec, "products", 0) == 1 else 2.0


def selecting(wanted: tuple[str, ...], rightly: bool = True) -> Selecting:
    return Selecting(solve=forced(wanted, rightly), measured=Rounding())


class Codes(Planned):
    """Products in 8 bits alone."""

    def permits(self, source: str, constant: str, numerics: str) -> bool:
        return numerics == "w8a8-sym"


def build(
    graph: Graph, wanted: tuple[str, ...], path: Path, rightly: bool = True, codes: bool = False
) -> Path:
    how = selecting(wanted, rightly)
    how = replace(how, offers=Codes(graph)) if codes else how
    lowered, plan = lower_for(graph, AMX, 1e-2, how=how)
    with patch.object(codegen, "compile_kernel", _compiled):
        image, tiers = backend.build(lowered, jobs=0)
    write_package(path, graph.name, [Variant(lowered, image, plan, tiers)], lowered.weights, [])
    return path


def rows(*sizes: int, width: int, lead: tuple[int, ...] = ()) -> list[np.ndarray]:
    """Inputs of so many rows, with subnormals, infinity and NaN in rows of their own."""
    found = []
    for m in sizes:
        x = 3 * np.random.default_rng(m).standard_normal((m, width)).astype(np.float32)
        x[0, 3] = 1e-40
        if m > 4:
            x[1, 5], x[2, 7], x[3, :] = np.inf, np.nan, 1e-41
        found.append(x.reshape(*lead, m, width))
    return found


def norms_of(graph: Graph, wanted: tuple[str, ...], rightly: bool = True) -> list[str]:
    """Kinds of normalization that products of the program begin with."""
    specs = [s.spec for s in lower(graph, AMX, 1e-2, selecting(wanted, rightly)).program.steps]
    found = (getattr(spec, "norm", None) for spec in specs)
    return [norm.kind for norm in found if norm is not None]


def reducing(graph: Graph, wanted: tuple[str, ...], rightly: bool = True) -> int:
    """Regions of the program that reduce rows."""
    steps = lower(graph, AMX, 1e-2, selecting(wanted, rightly)).program.steps
    return sum(isinstance(s.spec, RegionSpec) and bool(s.spec.reduced) for s in steps)


@needs_amx
@pytest.mark.parametrize("width", [45, 300])
def test_a_pre_norm_block_has_the_same_bits(width: int, tmp_path: Path) -> None:
    graph = pre_norm(width)
    made = {w: build(graph, w, tmp_path / f"{'-'.join(w)}.tw") for w in (ALONE, UNMADE)}
    for x in rows(1, 3, 16, 33, 50, width=width):
        (plain,), (got,) = (run_artifact(made[w], graph, [x]) for w in (ALONE, UNMADE))
        assert np.isfinite(plain[0]).all()
        np.testing.assert_array_equal(got, plain)


@needs_amx
def test_several_readers_have_the_same_bits(tmp_path: Path) -> None:
    graph = several()
    made = {w: build(graph, w, tmp_path / f"{'-'.join(w)}.tw") for w in (ALONE, UNMADE)}
    for x in rows(1, 7, 40, width=45, lead=(1,)):
        results = [run_artifact(made[w], graph, [x]) for w in (ALONE, UNMADE)]
        for plain, got in zip(*results, strict=True):
            np.testing.assert_array_equal(got, plain)


@needs_amx
def test_a_result_over_its_residual(tmp_path: Path) -> None:
    """x + product(norm(x)) may not overwrite x, whose rows it still normalizes."""
    d = Draft((1, 512))
    x = product(d, d.input("x", "f32", "m", 64), 64)
    h = product(d, layer_norm(d, x), 64, 3)
    graph = d.graph(d(unary.Relu, x=product(d, d(binary.Add, a=h, b=x), 64, 4)))
    made = {w: build(graph, w, tmp_path / f"{'-'.join(w)}.tw") for w in (ALONE, UNMADE)}
    for x_ in rows(9, 300, width=64):
        (plain,), (got,) = (run_artifact(made[w], graph, [x_]) for w in (ALONE, UNMADE))
        np.testing.assert_array_equal(got, plain)


def test_the_norm_has_no_kernel_of_its_own() -> None:
    assert (norms_of(pre_norm(), ALONE), reducing(pre_norm(), ALONE)) == ([], 1)
    assert (norms_of(pre_norm(), UNMADE), reducing(pre_norm(), UNMADE)) == (["layer"], 0)
    assert norms_of(several(), UNMADE) == ["rms"] * 3 + ["layer"]
    assert reducing(several(), UNMADE) == 0


@pytest.mark.parametrize("graph", [post_norm(), halves()], ids=["residual", "half rows"])
def test_not_offered_where_something_needs_the_value(graph: Graph) -> None:
    assert norms_of(graph, UNMADE) == []
    low = lower(graph, AMX, 1e-2, selecting(UNMADE))
    assert low.selection is not None
    for node, _ in low.selection.values:
        if node.handed.unmade is not None:
            edges = [row[AT] for _, edge in node.edges for row in edge]
            assert np.isinf([node.costs[AT], *edges]).any()


@needs_amx
def test_products_of_codes_normalize_with_the_same_bits(tmp_path: Path) -> None:
    d = Draft((1, 64))
    graph = d.graph(product(d, layer_norm(d, d.input("x", "f32", "m", 64)), 96))
    how = replace(selecting(UNMADE), offers=Codes(graph))
    low = lower(graph, AMX, 1e-2, how)
    assert len(low.handing.unmade) == 1
    plain = build(graph, ALONE, tmp_path / "plain.tw", codes=True)
    left = build(graph, UNMADE, tmp_path / "left.tw", codes=True)
    for x in rows(1, 40, width=64):
        want, got = (run_artifact(path, graph, [x])[0] for path in (plain, left))
        np.testing.assert_array_equal(got, want)


@needs_amx
@pytest.mark.parametrize("graph", [post_norm(), halves()], ids=["residual", "half rows"])
def test_who_cannot_normalize_makes_the_value(graph: Graph, tmp_path: Path) -> None:
    """Whatever a solver says, the result is right."""
    assert reducing(graph, UNMADE, rightly=False) == 1
    plain = build(graph, ALONE, tmp_path / "plain.tw")
    left = build(graph, UNMADE, tmp_path / "left.tw", rightly=False)
    for x in rows(1, 40, width=64):
        want, got = (run_artifact(path, graph, [x])[0] for path in (plain, left))
        np.testing.assert_array_equal(got, want)


def problem(blocks: int) -> tuple[list[FormatNode], Tables]:
    """Of pre-norm blocks, three candidates each, at prices as near as what formats are worth."""
    low = lower(pre_norm(256, blocks), AMX, 1e-2)
    rng = np.random.default_rng(blocks)
    questions = []
    for question in low.choices.questions:
        every = sorted(
            question.candidates,
            key=lambda c: (c.family.normed is None, getattr(c.spec, "products", 0)),
        )
        questions.append(replace(question, candidates=tuple(every[:2] + every[-1:])))
    profile = profile_for(AMX)
    prices = price(questions, points(questions, low.graph.symbols, {"m": 1}), AMX, profile, True)
    near = [[rng.uniform(1, 1.05) * 1e-5 for _ in row] for row in prices.seconds]
    prices = replace(prices, seconds=tuple(tuple((t,) for t in row) for row in near))
    values = format_nodes(low, questions, prices, profile, True, 1)
    return values, tables(questions, prices, None, {}, values)


def test_the_solver_finds_what_trying_everything_finds() -> None:
    taken = []
    for blocks in (1, 2):
        values, made = problem(blocks)
        assert sum(value.handed.unmade is not None for value in values) == blocks
        best = solve_exhaustively(as_problem(made, None))
        assert best is not None
        solved = solve_tables(made)
        assert as_problem(made, None).cost(solved) == pytest.approx(best[1], rel=1e-9)
        at = len(made.names) - len(values)
        taken += [j for value, j in zip(values, solved[at:], strict=True) if value.handed.unmade]
    assert AT in taken, "one row is normalized by the product that reads it"


def test_the_report_says_what_is_unmade() -> None:
    report = selection_report(lower(pre_norm(), AMX, 1e-2, selecting(UNMADE)))
    assert report is not None
    (found,) = (v for v in report["values"] if v["formats"] == list(UNMADE))
    assert "normalize" in found["reason"]
    assert "unmade" in found["costs"]

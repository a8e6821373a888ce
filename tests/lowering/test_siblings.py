"""Products of one operand: the same results in any number of launches, the best one chosen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from support.compiled_graph import assert_close, random_feeds, run_artifact
from support.draft_graph import Draft, weights

from tilewright.backends import reference
from tilewright.backends.artifact.error_report import formats_report
from tilewright.backends.artifact.package import Variant, write_package
from tilewright.backends.artifact.selection_report import selection_report
from tilewright.backends.kernels.candidates import Candidate
from tilewright.backends.llvm import backend, codegen
from tilewright.backends.llvm.lowering.error_budgets import error_budgets, predicted_squares
from tilewright.backends.llvm.lowering.format_prices import format_nodes
from tilewright.backends.llvm.lowering.lower import lower
from tilewright.backends.llvm.lowering.pricing import points, price
from tilewright.backends.llvm.lowering.select import Selecting, cheapest
from tilewright.backends.llvm.lowering.state import Lowering
from tilewright.backends.llvm.lowering.tables import Objective, Tables, tables
from tilewright.backends.llvm.program import launches
from tilewright.backends.profile import profile_for
from tilewright.backends.target import TARGETS, detect
from tilewright.compiler.driver import lower_for
from tilewright.compiler.formats import named
from tilewright.compiler.ir.core import Graph, Value
from tilewright.compiler.ir.ops import binary, shape, unary
from tilewright.compiler.ir.ops.contraction import Contract
from tilewright.passes.fuse_epilogues import fuse_epilogues
from tilewright.passes.selection.exhaustive import solve_exhaustively
from tilewright.passes.selection.problem import InfeasibleError
from tilewright.passes.selection.tables import as_problem, solve_tables
from tilewright.tools.inspect_selection import fork_rows, ways_of

_compiled = cache(codegen.compile_kernel)
AMX = TARGETS["sapphirerapids"]


def projected(
    widths: Sequence[int],
    k: int = 24,
    rows: int | str = "m",
    bias: bool = True,
    make: Callable[[int, int, int], np.ndarray] | None = None,
    turned: bool = True,
) -> Graph:
    """Products q0, q1, ... of x [rows, k], read through a transposition."""
    d = Draft((1, 64))
    x = d.input("x", "f32", rows, k)
    out: list[Value] = []
    for i, n in enumerate(widths):
        w = d.constant((make or weights_of)(i, k, n))
        y = d(Contract, a=x, b=w, spec="mk,kn->mn", source=f"q{i}")
        if bias:
            y = d(binary.Add, a=y, b=d.constant(weights(n, seed=9 + i)), source=f"b{i}")
        out.append(d(shape.Transpose, x=y, perm=(1, 0)) if turned else y)
    return fuse_epilogues(d.graph(*out))


def weights_of(i: int, k: int, n: int) -> np.ndarray:
    return weights(k, n, seed=i)


def taking(way: int) -> Callable[[Tables], Sequence[int]]:
    """A solver for which one way of every fork is the only one that costs nothing."""

    def solve(found: Tables) -> Sequence[int]:
        first = len(found.names) - len(found.forks)
        costs = [
            row if i < first else tuple(0.0 if j == way else 1e3 for j in range(len(row)))
            for i, row in enumerate(found.costs)
        ]
        return solve_tables(replace(found, costs=tuple(costs)))

    return solve


def labels(low: Lowering) -> list[str]:
    return [s.source for s in launches(low.program.steps) if s.label.endswith("matmul")]


class Fixed:
    """One family takes 1 s, all else 2 s."""

    def __init__(self, family: str) -> None:
        self.family = family

    def seconds(self, candidate: Candidate, dims: tuple[int, ...], cold: bool) -> float:
        return 1.0 if candidate.family.name == self.family else 2.0


class Offers:
    """Squares by constant and numerics; what each operation may run in by its source."""

    def __init__(
        self,
        squares: dict[tuple[str, str], tuple[float, ...]],
        limits: tuple[float, ...] = (1.0,),
        only: dict[str, str] | None = None,
        offered: frozenset[str] = frozenset(),
    ) -> None:
        self.table, self.limits, self.only, self.offered = squares, limits, only or {}, offered

    def permits(self, source: str, constant: str, numerics: str) -> bool:
        return numerics == self.only.get(source, numerics)

    def formats(self, source: str, constant: str) -> frozenset[str]:
        return self.offered

    def squares(self, source: str, constant: str, numerics: str) -> tuple[float, ...]:
        return self.table.get((constant, numerics), (0.0,) * len(self.limits))

    def floor(self, source: str, constant: str, numerics: str) -> None:
        return None

    def basis(self, source: str, constant: str, numerics: str) -> str:
        return "all"

    def settle(self, choices: object) -> bool:
        return False

    def others(self, numerics: str) -> tuple[float, ...]:
        raise AssertionError("everything here is calibrated")

    def encoded(self, source: str, constant: str, name: str):  # type: ignore[no-untyped-def]
        return named(name).encode(weights_of(int(source[1:]), 128, 64))


CODES = frozenset({"w4-g64", "w8a8-sym"})


def test_the_ways_of_three() -> None:
    low = lower(projected([5, 6, 7]), AMX, None, Selecting(solve=solve_tables, offers=Offers({})))
    assert low.selection is not None
    ((fork, _),) = low.selection.forks
    asked = low.selection.questions
    ways = [[asked[n].source for n in way] for way in fork.ways]
    assert ways == [
        ["q0, b0, q1, b1, q2, b2"],
        ["q0, b0", "q1, b1, q2, b2"],
        ["q0, b0, q1, b1", "q2, b2"],
        ["q0, b0", "q1, b1", "q2, b2"],
    ]
    low = lower(projected([5, 6, 7]), AMX, None, Selecting(solve=solve_tables))
    assert [len(way) for fork in low.choices.forks for way in fork.ways] == [1, 3]


def test_many_are_one_launch_or_all_apart() -> None:
    how = Selecting(solve=solve_tables, offers=Offers({}))
    low = lower(projected([3] * 6), AMX, None, how)
    assert low.selection is not None
    ((fork, _),) = low.selection.forks
    assert [len(way) for way in fork.ways] == [1, 6]


@pytest.mark.parametrize("family", ["f32_matmul", "bf16_matmul"])
@pytest.mark.parametrize("bias", [True, False])
def test_all_ways_give_the_same_bits(family: str, bias: bool, tmp_path: Path) -> None:
    # Alone in its column a bias is a scalar, and unlike others.
    graph = projected([3 if bias else 1, 33, 70], k=45, bias=bias)
    error = None if family == "f32_matmul" else 1e-2
    found: dict[int, list[list[np.ndarray]]] = {}
    given = [random_feeds(graph, {"m": m}, m) for m in (1, 7, 40)]
    for way, count in enumerate((1, 2, 2, 3)):
        how = Selecting(solve=taking(way), measured=Fixed(family), offers=Offers({}))
        lowered, plan = lower_for(graph, detect(), error, None, how)
        assert len(labels(lowered.state)) == count
        with patch.object(codegen, "compile_kernel", _compiled):
            image, tiers = backend.build(lowered, jobs=0)
        path = tmp_path / f"{way}.tw"
        write_package(path, "g", [Variant(lowered, image, plan, tiers)], lowered.weights, [])
        shapes = [[w.shape for w in reference.run(graph, x)] for x in given]
        found[way] = [run_artifact(path, graph, *xs) for xs in zip(given, shapes, strict=True)]
    for x, *made in zip(given, *found.values(), strict=True):
        for outputs in made[1:]:
            for one, other in zip(made[0], outputs, strict=True):
                np.testing.assert_array_equal(one, other)
        if error is None:
            for want, got in zip(reference.run(graph, x), made[0], strict=True):
                assert_close(got, want, "product", 2e-5, 2e-5)


def test_launches_apart_run_beside_each_other() -> None:
    lowered, _ = lower_for(projected([64] * 3), AMX, None, None, Selecting(solve=taking(1)))
    assert [x.joint for x in lowered.launches][:3] == ["", "beside", "beside"]


def test_what_is_not_alike_stays_apart() -> None:
    """Another epilogue, a result that the caller gets, and weights that something else reads."""
    d = Draft((1, 64))
    x = d.input("x", "f32", "m", 16)
    shared = d.constant(weights(16, 8, seed=3))
    plain, curved, given, *both = (
        d(Contract, a=x, b=w, spec="mk,kn->mn", source=f"p{i}")
        for i, w in enumerate([*(d.constant(weights(16, 8, seed=s)) for s in range(3)), shared])
    )
    other = d(Contract, a=shared, b=shared, spec="km,kn->mn")
    read = [d(shape.Transpose, x=v, perm=(1, 0)) for v in (plain, d(unary.Tanh, x=curved), *both)]
    low = lower(fuse_epilogues(d.graph(*read, given, other)), AMX)
    assert low.choices.forks == []
    assert {"p0", "p2", "p3"} < {q.source for q in low.choices.questions}


def test_few_bytes_are_worth_a_launch() -> None:
    """One row reads f16 panels of half the bytes: the third weights, which are no f16 numbers,
    would make all of them f32."""

    def mixed(i: int, k: int, n: int) -> np.ndarray:
        w = weights(k, n, seed=i)
        return w if i == 2 else w.astype(np.float16).astype(np.float32)

    for make, launched in (
        (weights_of, ["q0, q1, q2"]),
        (mixed, ["q0, q1", "q2"]),
    ):
        graph = projected([1024] * 3, 1024, 1, bias=False, make=make)
        for solve in (solve_tables, cheapest):
            low = lower(graph, TARGETS["x86-64-v4"], None, Selecting(solve=solve))
            assert labels(low) == launched
    report = selection_report(low)
    assert report is not None
    (fork,) = report["forks"]
    taken, *others = fork["ways"]
    assert taken["launches"] == [["q0", "q1"], ["q2"]]
    assert taken["reason"] == "chosen"
    assert all(way["reason"].endswith(" times the time") for way in others)
    assert all(way["microseconds"] > taken["microseconds"] for way in others)
    ((name, count, taken_way, *_, after),) = fork_rows(report)
    assert (name, count, taken_way) == ("q0 | q1 | q2", "1", "1+2 | 3")
    assert after.endswith(" times the time")
    ((_, rows),) = ways_of(report, "q2")
    assert len(rows) == 4


def test_numerics_of_one_part_take_it_out() -> None:
    graph = projected([64] * 3, 128, bias=False)
    for only, launched, formats in (
        ({"q2": "w8a8-sym"}, ["q0, q1", "q2"], ["w4-g64", "w4-g64", "w8a8-sym"]),
        ({}, ["q0, q1, q2"], ["w4-g64"] * 3),
        ({"q1": "f32"}, ["q0", "q1", "q2"], ["w4-g64", "f32", "w4-g64"]),
    ):
        offers = Offers({}, (1.0,), only, CODES)
        how = Selecting({"m": 1}, solve=solve_tables, offers=offers, objective=OBJECTIVE)
        low = lower(graph, AMX, None, how)
        assert labels(low) == launched
        assert low.selection is not None
        assert list(formats_report(low.selection).values()) == formats


OBJECTIVE = Objective(time=1e-2, size=1.0)


def test_errors_of_one_part_take_it_out() -> None:
    """4 bits of the third break the bound, of the others they do not."""
    squares = {("w2", "w4-g64"): (4.0,), ("w0", "w4-g64"): (0.3,), ("w1", "w4-g64"): (0.3,)}
    offers = Offers(squares, offered=CODES)
    how = Selecting({"m": 1}, solve=solve_tables, offers=offers, objective=OBJECTIVE)
    low = lower(projected([64] * 3, 128, bias=False), AMX, None, how)
    assert labels(low) == ["q0, q1", "q2"]
    assert low.selection is not None
    assert low.selection.predicted() == pytest.approx((0.6**0.5,))
    report = selection_report(low)
    assert report is not None
    ways = {str(w["launches"]): w for w in report["forks"][0]["ways"]}
    assert ways["[['q0', 'q1', 'q2']]"]["numerics"] != ["w4-g64"]
    assert report["numerics"]["w4-g64"]["operations"] == 2


def test_codes_side_by_side_are_those_of_each() -> None:
    encoded = [named("w4-g64").encode(weights(128, n, seed=n)) for n in (3, 64, 5)]
    from tilewright.compiler.formats.format import side_by_side

    whole = side_by_side(encoded)
    assert whole is not None
    want = np.concatenate([named("w4-g64").decode(e) for e in encoded], axis=1)
    np.testing.assert_array_equal(named("w4-g64").decode(whole), want)
    apart = [named("w8a8-o32").encode(weights(128, n, seed=n)) for n in (3, 64)]
    assert side_by_side(apart) is None


def two_groups() -> Graph:
    """Three products of x, two of the first of them, and a last one."""
    d = Draft((1, 64))
    x = d.input("x", "f32", "m", 32)
    a, b, c = (
        d(Contract, a=x, b=d.constant(weights(32, 32, seed=i)), spec="mk,kn->mn") for i in range(3)
    )
    e, f = (
        d(Contract, a=a, b=d.constant(weights(32, 24, seed=i)), spec="mk,kn->mn") for i in (3, 4)
    )
    return d.graph(*(d(shape.Transpose, x=v, perm=(1, 0)) for v in (b, c, e, f)))


@pytest.mark.parametrize("seed", range(6))
def test_the_choice_is_that_of_trying_all(seed: int) -> None:
    """Two candidates a question, prices near each other, errors, bytes and formats of values."""
    rng = np.random.default_rng(seed)
    low = lower(two_groups(), AMX, None, Selecting(solve=solve_tables, offers=Offers({})))
    questions = [
        replace(q, candidates=tuple({c.numerics: c for c in q.candidates}.values())[:2])
        for q in low.choices.questions
    ]
    profile, forks = profile_for(AMX), low.choices.forks
    assert [len(fork.ways) for fork in forks] == [4, 2]
    envs = points(questions, low.graph.symbols, {"m": 8})
    prices = price(questions, envs, AMX, profile, True, forks=forks)
    near = [[rng.uniform(1, 2) * len(q.parts) for _ in q.candidates] for q in questions]
    prices = replace(prices, seconds=tuple(tuple((t,) for t in row) for row in near))
    values = format_nodes(low, questions, prices, profile, True, 1)[: seed % 2]
    squares = {
        (f"w{i}", n): (float(rng.uniform(0, 1)), float(rng.uniform(0, 1)))
        for i in range(5)
        for n in ("bf16x3", "bf16")
    }
    offers = Offers(squares, (float(rng.uniform(0.2, 2)), 1.0))
    found = predicted_squares(questions, offers, prices.costs())
    budgets = error_budgets(found, offers.limits, prices.optional)
    size = sum(c.layout.bytes for q in questions for c in q.candidates[:1] if len(q.parts) == 1)
    limit = int(size * rng.uniform(0.7, 1.2)) if seed % 3 else None
    made = tables(questions, prices, limit, {}, values, budgets, Objective())
    problem = as_problem(made, limit)
    best = solve_exhaustively(problem)
    try:
        solved = solve_tables(made)
    except InfeasibleError:
        assert best is None
        return
    if best is not None:
        assert problem.keeps_limits(solved)
        assert problem.cost(solved) == pytest.approx(best[1], rel=1e-9)

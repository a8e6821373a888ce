"""Selections under error budgets and a cap of bytes: optimal, and explained in the report."""

from itertools import product
from math import prod

import numpy as np
import pytest
from support.draft_graph import Draft, weights

from tilewright.backends.artifact.error_report import format_keys, formats_report
from tilewright.backends.artifact.selection_report import selection_report
from tilewright.backends.llvm.lowering.lower import lower
from tilewright.backends.llvm.lowering.select import Selecting
from tilewright.backends.llvm.lowering.tables import Objective
from tilewright.backends.target import TARGETS
from tilewright.compiler.ir.ops.contraction import Contract
from tilewright.passes.selection.exhaustive import MOST, solve_exhaustively
from tilewright.passes.selection.problem import InfeasibleError
from tilewright.passes.selection.tables import as_problem, solve_tables

TARGET = TARGETS["sapphirerapids"]
FLOATS = ("f32", "bf16x3", "bf16")


class Errors:
    """Squares of two outputs by constant and numerics; each constant has as many numerics as
    FLOATS."""

    def __init__(self, squares, limits):
        self.table, self.limits = squares, limits

    def permits(self, source, constant, numerics):
        return numerics in FLOATS

    def formats(self, source, constant):
        return frozenset()

    def squares(self, source, constant, numerics):
        return self.table[constant, numerics]

    def floor(self, source, constant, numerics):
        return None

    def basis(self, source, constant, numerics):
        return "columns" if numerics == "bf16" else "all"

    def settle(self, choices):
        return False

    def others(self, numerics):
        raise AssertionError("everything here is calibrated")


def chain(count, width=64):
    d = Draft()
    x = d.input("x", "f32", "m", width)
    for i in range(count):
        w = d.constant(weights(width, width, seed=i))
        x = d(Contract, a=x, b=w, spec="mk,kn->mn", source=f"layer{i}")
    return d.graph(x)


def random_errors(seed, count):
    rng = np.random.default_rng(seed)
    size = dict(zip(FLOATS, (0.0, 1e-10, 1e-5), strict=True))
    table = {
        (f"w{i}", n): tuple(float(size[n] * rng.lognormal(0, 1.5)) for _ in range(2))
        for i in range(count)
        for n in FLOATS
    }
    limits = tuple(float(rng.choice([1e-7, 1e-5, 2e-5, 4e-5])) for _ in range(2))
    return Errors(table, limits)


@pytest.mark.parametrize("seed", range(12))
def test_the_choice_is_that_of_trying_all(seed):
    count = 3
    rng = np.random.default_rng(100 + seed)
    size = int(rng.choice([3 * 8192, 2 * 8192 + 24576, 100_000]))  # bf16, f32, three planes
    objective = Objective() if seed % 2 else Objective(time=1e-2, size=1.0)
    seen = []

    def solve(tables):
        seen.append(tables)
        return solve_tables(tables)

    how = Selecting(
        {"m": 64},
        solve=solve,
        offers=random_errors(seed, count),
        objective=objective,
        max_size=size,
    )
    try:
        low = lower(chain(count), TARGET, None, how)
    except InfeasibleError:
        low = None
    (tables,) = seen
    problem = as_problem(tables, tables.usage_limit)
    assert prod(len(n.costs) for n in problem.nodes) <= MOST
    best = solve_exhaustively(problem)
    if low is None or best is None:
        assert low is None
        assert best is None
        return
    found = solve_tables(tables)
    assert problem.keeps_limits(found)
    assert problem.cost(found) == pytest.approx(best[1], rel=1e-9)


def tight(limit):
    """bf16 makes 1e-3 at the first output from each of three operations; wide: no limit at the
    second."""
    sizes = {"f32": 0.0, "bf16x3": 1e-5, "bf16": 1e-3}
    squares = {(f"w{i}", n): (e**2, 4 * e**2) for i in range(3) for n, e in sizes.items()}
    return Errors(squares, (limit**2, 1.0))


def lowered(limit):
    how = Selecting({"m": 64}, solve=solve_tables, offers=tight(limit), objective=Objective())
    return lower(chain(3), TARGET, None, how)


def test_the_budget_decides_how_many_are_rounded():
    for limit, rounded in ((2e-3, 3), (1.5e-3, 2), (1.1e-3, 1), (9e-4, 0)):
        low = lowered(limit)
        formats = formats_report(low.selection)
        assert list(formats) == ["layer0", "layer1", "layer2"]
        assert list(formats.values()).count("bf16") == rounded
        first, second = low.selection.predicted()
        assert first <= limit
        assert second == pytest.approx(2 * first)


def test_the_report_has_errors_and_reasons():
    report = selection_report(lowered(1.5e-3))
    assert report["predicted"] == pytest.approx([2**0.5 * 1e-3, 2 * 2**0.5 * 1e-3], rel=1e-2)
    assert report["numerics"]["bf16"] == {"operations": 2, "weight_bytes": 2 * 8192}
    (exact,) = [c for c in report["choices"] if c["candidates"][0]["numerics"] != "bf16"]
    assert exact["errors"]["bf16"] == [[0.001, 0.002]]
    assert exact["estimated"] == ["bf16"]
    reasons = {c["reason"] for c in exact["candidates"] if c["numerics"] == "bf16"}
    assert any("but takes 0.44 of the error budget, not " in reason for reason in reasons)
    rounded = [c for c in report["choices"] if c["candidates"][0]["numerics"] == "bf16"]
    assert sum(len(c["sources"]) for c in rounded) == 2
    for choice in rounded:
        assert len(choice["errors"]["bf16"]) == len(choice["sources"])


def test_time_counts_alike_for_kernels_and_for_what_is_between_them():
    """Edges are times too: of conversions."""
    found = []

    def solve(problem):
        found.append(problem)
        return solve_tables(problem)

    for time in (1.0, 0.25):
        offers = Errors(dict.fromkeys(product(("w0", "w1"), FLOATS), (0.0,)), (1.0,))
        how = Selecting(solve=solve, offers=offers, objective=Objective(time, 0.0))
        lower(chain(2), TARGET, 1e-2, how)
    whole, part = found
    assert any(max(row) > 0 for _, row in whole.edges)
    for (_, row), (_, scaled) in zip(whole.edges, part.edges, strict=True):
        np.testing.assert_allclose(scaled, np.multiply(row, 0.25))


def test_nothing_is_known_of_errors_without_a_contract():
    report = selection_report(lower(chain(2), TARGET, 1e-2, Selecting(solve=solve_tables)))
    assert report["predicted"] == []
    assert all("errors" not in choice for choice in report["choices"])
    assert set(report["numerics"]) == {"bf16"}


def test_operations_of_one_node_are_told_apart_by_their_constants():
    assert format_keys([("a", "w0"), ("b", "w0"), ("b", "w1")]) == ["a", "b@w0", "b@w1"]

"""The selection ILP against every choice tried, and the file format of its problems."""

import re
from math import inf, prod

import numpy as np
import pytest

from tilewright.passes.memory.milp import Milp
from tilewright.passes.selection import iopddl
from tilewright.passes.selection.dominance import reduced
from tilewright.passes.selection.exhaustive import solve_exhaustively
from tilewright.passes.selection.ilp import solve
from tilewright.passes.selection.problem import Budget, Edge, InfeasibleError, Node, Problem

EXAMPLE = """
{"problem": {"name": "example",
  "nodes": {"intervals": [[30, 70], [40, 70], [50, 120], [110, 140], [110, 150]],
            "costs": [[15], [55, 65], [25, 45, 35], [85, 75], [95]],
            "usages": [[10], [25, 25], [15, 20, 15], [10, 10], [15]]},
  "edges": {"nodes": [[0, 1], [0, 2], [1, 3], [2, 4], [3, 4]],
            "costs": [[30, 40], [50, 10, 40], [90, 10, 20, 80], [60, 20, 30], [70, 60]]},
  "usage_limit": 50}}
"""
"""The example of the contest's announcement."""


def random_problem(seed: int, most: int) -> Problem:
    """Up to `most` nodes of up to 4 strategies: chains, skips and edges over three nodes, some
    combinations forbidden, and a random set of limits that may be impossible to keep."""
    rng = np.random.default_rng(seed)
    count = int(rng.integers(1, most + 1))
    sizes = [int(rng.integers(1, 5)) for _ in range(count)]

    def table(size: int, forbid: float) -> tuple[float, ...]:
        values = rng.integers(0, 100, size) if rng.random() < 0.5 else rng.random(size) * 1e-3
        return tuple(inf if rng.random() < forbid else float(v) for v in values)

    forbid = float(rng.choice([0.0, 0.1]))
    nodes = []
    for size in sizes:
        low = int(rng.integers(0, 6))
        usages = tuple(int(u) for u in rng.integers(0, 1000, size))
        nodes.append(Node(table(size, forbid / 2), usages, (low, low + int(rng.integers(0, 4)))))
    edges = []
    for _ in range(int(rng.integers(0, 2 * count))):
        arity = min(count, int(rng.choice([1, 2, 2, 2, 3])))
        ends = tuple(int(n) for n in rng.choice(count, arity, replace=False))
        edges.append(Edge(ends, table(prod(sizes[n] for n in ends), forbid)))
    limit = int(rng.integers(200, 500 * count)) if rng.random() < 0.6 else None
    budgets = []
    if rng.random() < 0.4:
        spent = tuple((n, tuple(rng.random(s).tolist())) for n, s in enumerate(sizes))
        budgets.append(Budget("error", spent, float(rng.uniform(0.1, 0.5) * count)))
    return Problem(tuple(nodes), tuple(edges), limit, tuple(budgets))


def check(problem: Problem) -> bool:
    """The solver's answer is the exhaustive one; whether there was any."""
    best = solve_exhaustively(problem)
    if best is None:
        with pytest.raises(InfeasibleError):
            solve(problem)
        return False
    found = solve(problem)
    assert problem.keeps_limits(found.choice)
    assert found.cost == pytest.approx(problem.cost(found.choice))
    assert found.cost == pytest.approx(best[1], rel=1e-9, abs=1e-12)
    assert found.optimal
    return True


def test_small_graphs() -> None:
    outcomes = [check(random_problem(seed, 6)) for seed in range(300)]
    assert 150 < sum(outcomes) < 250


@pytest.mark.parametrize("seed", range(20))
def test_ten_operations_of_four_strategies(seed: int) -> None:
    check(random_problem(1000 + seed, 10))


def test_a_long_chain_with_a_cap() -> None:
    """200 operations, more than can be tried: the optimum is known from how it is made."""
    nodes = tuple(Node((3.0, 1.0), (0, 10)) for _ in range(200))
    edges = tuple(Edge((n, n + 1), (0.0, 5.0, 5.0, 0.0)) for n in range(199))
    # half of them may be fast; changing sides costs 5, so they are together
    found = solve(Problem(nodes, edges, usage_limit=1000))
    assert found.cost == 100 * 3 + 100 * 1 + 5
    assert found.optimal


@pytest.mark.parametrize("seed", range(4))
def test_strategies_far_beyond_a_limit_do_not_blur_it(seed: int, monkeypatch) -> None:
    """An absolute tolerance of the solver, in units of the largest error, would be the limit."""
    rng = np.random.default_rng(seed)
    costs = np.sort(rng.random((9, 3)), axis=1)[:, ::-1]
    errors = np.column_stack([np.zeros(9), rng.random(9) * 1e-6, 0.1 + rng.random(9)])
    spent = tuple((n, tuple(row)) for n, row in enumerate(errors.tolist()))
    nodes = tuple(Node(tuple(row)) for row in costs.tolist())
    problem = Problem(nodes, budgets=(Budget("error", spent, 1.5e-6),))
    solved, whole = [], Milp.solve
    monkeypatch.setattr(Milp, "solve", lambda m, *a, **k: solved.append(m) or whole(m, *a, **k))
    assert check(problem)
    assert len(solved) == 1


@pytest.mark.parametrize("seed", range(20))
def test_strategies_left_are_those_that_nothing_dominates(seed: int) -> None:
    """Wide tables of few values, of which many columns and rows are alike."""
    rng = np.random.default_rng(seed)
    count, other = int(rng.integers(1, 30)), int(rng.integers(1, 40))
    costs = rng.integers(0, 3, count).astype(float)
    spent = rng.integers(0, 4, (2, count)).astype(float)
    table = rng.integers(0, 3, (count, 3)).astype(float)[:, rng.integers(0, 3, other)]
    table[rng.random(count) < 0.1] = inf
    nodes = (Node(tuple(costs)), Node((0.0,) * other))
    budgets = tuple(Budget(str(i), ((0, tuple(s)),), 9.0) for i, s in enumerate(spent))
    problem = Problem(nodes, (Edge((0, 1), tuple(table.ravel())),), budgets=budgets)
    rows = [(costs[i], *spent[:, i], *table[i]) for i in range(count)]

    def better(j: int, i: int) -> bool:
        nowhere_worse = all(x <= y for x, y in zip(rows[j], rows[i], strict=True))
        return nowhere_worse and (rows[j] != rows[i] or j < i)

    wanted = tuple(i for i in range(count) if not any(better(j, i) for j in range(count)))
    assert reduced(problem).kept[0] == wanted


def test_the_published_example() -> None:
    problem = iopddl.read(EXAMPLE)
    assert problem.cost((0, 0, 2, 1, 0)) == 445
    assert not problem.keeps_limits((0, 0, 1, 1, 0))
    assert len(problem.limits()) == 2
    assert solve(problem).cost == 445
    assert check(problem)


@pytest.mark.parametrize("seed", range(20))
def test_problems_survive_the_file(seed: int) -> None:
    problem = random_problem(seed, 8)
    assert iopddl.read(iopddl.write(problem)) == problem


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}", "not a selection problem: KeyError('problem')"),
        ('{"problem": {"nodes": {}}}', "not a selection problem: KeyError('edges')"),
        (EXAMPLE.replace("[30, 40]", "[30]"), "edge 0 has 1 costs, not 2"),
        (EXAMPLE.replace("[0, 1]", "[1, 1]"), "edge 0 names a node twice"),
        (EXAMPLE.replace("[[10]", "[[-1]"), "node '': a usage is negative"),
        (
            EXAMPLE.replace("[[15], [55", "[[], [55"),
            "node '': a cost and a usage for each strategy, at least 1",
        ),
    ],
)
def test_what_is_no_problem(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        iopddl.read(text)


def test_what_cannot_be_kept_is_named() -> None:
    nodes = (Node((1.0, 2.0), (70, 30)), Node((1.0, 2.0), (60, 50)))
    error = Budget("error", ((0, (0.0, 0.5)), (1, (0.0, 0.5))), 0.1)

    def refusal(problem: Problem) -> InfeasibleError:
        with pytest.raises(InfeasibleError) as raised:
            solve(problem)
        return raised.value

    tight = refusal(Problem(nodes, usage_limit=79))
    assert (tight.limit, tight.least) == ("memory", 80)
    assert str(tight) == "no choice keeps the limit memory: at least 80 is needed"
    both = refusal(Problem(nodes, usage_limit=80, budgets=(error,)))
    assert str(both) == "no choice keeps the limit error beside memory: at least 1 is needed"
    other = Budget("noise", ((0, (0.5, 0.0)), (1, (0.5, 0.0))), 0.1)
    text = "no choice keeps the limit noise beside error: at least 1 is needed"
    assert str(refusal(Problem(nodes, budgets=(error, other)))) == text
    forbidden = refusal(Problem(nodes, (Edge((0, 1), (inf,) * 4),)))
    assert str(forbidden) == "every choice contains a forbidden combination"

"""Values of attention heads with fewer numbers, against the graph as it was."""

from dataclasses import replace

import numpy as np
import pytest
from support.attention_graph import HEADS, SIZE, D, attending, weights

from tilewright.backends import reference
from tilewright.passes.quantization.calibration import calibrate
from tilewright.passes.shrinking.head_ladders import head_ladders
from tilewright.passes.shrinking.heads import bases, value_heads, with_bases
from tilewright.passes.shrinking.narrowing import shrunk

RANDOM = np.random.default_rng(9)


def native(graph):
    return lambda one: dict(zip(graph.output_names, reference.run(graph, one), strict=True))


def feeds():
    return {"x": RANDOM.standard_normal((2, 30, D)).astype(np.float32)}


def calibrated(graph):
    return calibrate(graph, [feeds() for _ in range(12)], native)


def deviation(graph, smaller):
    one = feeds()
    want, got = (reference.run(g, one, precision="f64")[0] for g in (graph, smaller))
    return np.linalg.norm(got - want) / np.linalg.norm(want)


@pytest.mark.parametrize("groups", [HEADS, 2, 1])
@pytest.mark.parametrize("bias", [False, True])
def test_nothing_changes_where_all_stays(groups, bias):
    graph = attending(groups, bias)
    (heads,) = value_heads(graph)
    assert (heads.heads, heads.groups, heads.size) == (HEADS, groups, SIZE)
    x = RANDOM.standard_normal((500, HEADS * SIZE))
    w = graph.weights.array(heads.reader.b.op.name)
    found = bases(heads, w, x.T @ x, SIZE)
    for basis in found.values:
        np.testing.assert_allclose(basis.T @ basis, np.eye(SIZE), atol=1e-10)
    assert deviation(graph, with_bases(graph, {heads: found})) < 1e-6


@pytest.mark.parametrize("groups", [HEADS, 2])
@pytest.mark.parametrize("turn", [False, True])
def test_values_of_low_rank_are_smaller_without_error(groups, turn):
    graph = attending(groups, rank=8, turn=turn)
    (found,) = head_ladders(graph, calibrated(graph))
    assert (found.what, found.source, found.size) == ("values of heads", "out", SIZE)
    assert [r.kept for r in found.rungs] == [24, 16, 8]
    last = found.rungs[-1]
    assert last.local < 1e-4
    smaller = shrunk(graph, {found: last})
    assert deviation(graph, smaller) < 1e-4
    (narrow,) = value_heads(smaller)
    assert narrow.size == 8
    assert found.numbers(8) * 4 == found.numbers(SIZE) == (groups + HEADS) * SIZE * D


def test_errors_are_what_the_smaller_graph_makes():
    """Of random weights, of which nothing can go under 1 %; ranks below it cost more and more."""
    graph = attending(2)
    (found,) = head_ladders(graph, calibrated(graph))
    errors = [np.sqrt(r.squares[0]) for r in found.rungs]
    assert 0.01 < errors[0] < errors[1] < errors[2]
    made = deviation(graph, shrunk(graph, {found: found.rungs[1]}))
    assert errors[1] / 1.3 < made < errors[1] * 1.3
    (short,) = head_ladders(graph, calibrated(graph), [1e-4])
    assert len(short.rungs) == 1


def test_one_rank_is_the_best_of_all_projections():
    """Of one head, against the singular values of X W: its tail is the least error."""
    graph = attending(1)
    (heads,) = value_heads(graph)
    one = replace(heads, heads=1, groups=1)
    x = RANDOM.standard_normal((400, SIZE)) * np.exp(RANDOM.standard_normal(SIZE))
    w = weights(SIZE, D)
    found = bases(one, w, x.T @ x, 12)
    off = np.linalg.norm(x @ found.values[0] @ found.weights - x @ w)
    tail = np.sqrt((np.linalg.svd(x @ w, compute_uv=False)[12:] ** 2).sum())
    assert off == pytest.approx(tail, rel=1e-4)


def test_what_others_read_stays():
    assert value_heads(attending(shown=True)) == []
    graph = attending()
    assert head_ladders(graph, calibrated(graph), free=lambda source: source != "v") == []

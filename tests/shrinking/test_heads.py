"""Values of attention heads with fewer numbers, against the graph as it was."""

from dataclasses import replace

import numpy as np
import pytest
from support.draft_graph import Draft

from tilewright.backends import reference
from tilewright.compiler.ir.dims import sym
from tilewright.compiler.ir.ops.binary import Add
from tilewright.compiler.ir.ops.contraction import Contract
from tilewright.compiler.ir.ops.nn import Attention
from tilewright.compiler.ir.ops.shape import Reshape
from tilewright.passes.quantization.calibration import calibrate
from tilewright.passes.shrinking.head_ladders import head_ladders
from tilewright.passes.shrinking.heads import bases, value_heads, with_bases
from tilewright.passes.shrinking.narrowing import shrunk

RANDOM = np.random.default_rng(9)
D, HEADS, SIZE = 40, 4, 32


def native(graph):
    return lambda one: dict(zip(graph.output_names, reference.run(graph, one), strict=True))


def weights(*shape):
    return (RANDOM.standard_normal(shape) / np.sqrt(shape[0])).astype(np.float32)


def attending(groups=HEADS, bias=False, rank=None, shown=False, turn=False):
    """Causal attention of one layer, with a residual. rank: of each group's values. shown: they
    are an output too. turn: the last product has its weights transposed."""
    draft = Draft(bounds=(1, 40))
    x = draft.input("x", "f32", "batch", "seq", D)
    made = {}
    for name, count in (("q", HEADS), ("k", groups), ("v", groups)):
        w = weights(D, count * SIZE)
        if name == "v" and rank is not None:
            parts = [weights(D, rank) @ weights(rank, SIZE) for _ in range(count)]
            w = np.concatenate(parts, axis=1)
        y = draft(Contract, a=x, b=draft.constant(w), spec="bsk,kn->bsn", source=name)
        if bias:
            y = draft(Add, a=y, b=draft.constant(weights(1, count * SIZE)[0]))
        shape = (sym("batch"), sym("seq"), count, SIZE)
        made[name] = draft(Reshape, x=y, shape=shape)
    axes = {"q_axes": "bqhd", "k_axes": "bkgd", "v_axes": "bkge", "out_axes": "bqhe"}
    out = draft(Attention, **made, scale=0.2, causal=True, **axes)
    out = draft(Reshape, x=out, shape=(sym("batch"), sym("seq"), HEADS * SIZE))
    w = weights(HEADS * SIZE, D)
    w = draft.constant(np.ascontiguousarray(w.T) if turn else w)
    spec = "bsk,nk->bsn" if turn else "bsk,kn->bsn"
    y = draft(Contract, a=out, b=w, spec=spec, source="out")
    y = draft(Add, a=x, b=y)
    return draft.graph(y, made["v"]) if shown else draft.graph(y)


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

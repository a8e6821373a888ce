"""Residual streams in other bases, against the graph as it was, in float64."""

import numpy as np
import pytest
from support.draft_graph import Draft
from support.stream_graph import WORDS, D, decoder, feeds, few_dimensions, weights

from tilewright.backends import reference
from tilewright.compiler.ir.ops.binary import Add
from tilewright.compiler.ir.ops.contraction import Contract
from tilewright.compiler.ir.ops.nn import LayerNorm, RmsNorm
from tilewright.compiler.ir.ops.shape import Gather
from tilewright.compiler.ir.ops.unary import Tanh
from tilewright.passes.shrinking.rotation import principal, rotated
from tilewright.passes.shrinking.streams import streams

RANDOM = np.random.default_rng(4)


def rows(graph, stream):
    """What norms give, over some feeds."""
    seen = {norm: [] for norm, _ in stream.norms}

    def observe(op, results):
        if op in seen:
            seen[op].append(results[0].reshape(-1, stream.size))

    for _ in range(8):
        reference.run(graph, feeds(), observe=observe)
    return {norm: np.concatenate(found) for norm, found in seen.items()}


def exact(graph, one):
    return reference.run(graph, one, precision="f64")[0]


def orthogonal():
    return np.linalg.qr(RANDOM.standard_normal((D, D)))[0]


@pytest.mark.parametrize("centred", [False, True])
def test_nothing_changes_where_nothing_is_left_out(centred):
    """Any rotation, and that of the principal components."""
    graph = decoder(centred=centred)
    (stream,) = streams(graph)
    assert (stream.size, len(stream.norms), len(stream.makers)) == (D, 3, 2)
    assert stream.centred == centred
    one = feeds()
    want = exact(graph, one)
    for basis in (orthogonal(), principal(graph, stream, rows(graph, stream))):
        np.testing.assert_allclose(basis.T @ basis, np.eye(D), atol=1e-12)
        after = rotated(graph, stream, basis)
        got = exact(after, one)
        # Weights are rounded to f32 once more.
        assert np.linalg.norm(got - want) < 1e-6 * np.linalg.norm(want)
        kinds = {type(op) for op in after.ops}
        assert LayerNorm not in kinds
        assert all(op.scale is None for op in after.ops if isinstance(op, RmsNorm))


def test_directions_come_by_energy():
    graph = decoder()
    (stream,) = streams(graph)
    found = rows(graph, stream)
    basis = principal(graph, stream, found)
    # What norms give without their scales.
    energies = np.zeros(D)
    for norm, x in found.items():
        plain = x / graph.weights.array(norm.scale.op.name)
        energies += ((plain @ basis) ** 2).mean(axis=0)
    assert (np.diff(energies) <= 1e-9).all()


@pytest.mark.parametrize("centred", [False, True])
def test_a_stream_in_few_dimensions_is_narrower_without_error(centred):
    """All that is added to the stream lies in 9 dimensions."""
    graph = few_dimensions(9, centred)
    (stream,) = streams(graph)
    basis = principal(graph, stream, rows(graph, stream))
    one = feeds()
    want = exact(graph, one)
    after = rotated(graph, stream, basis[:, :9])
    (narrow,) = streams(after)
    assert narrow.size == 9
    assert np.linalg.norm(exact(after, one) - want) < 1e-5 * np.linalg.norm(want)
    less = exact(rotated(graph, stream, basis[:, :7]), one)
    assert np.linalg.norm(less - want) > 1e-3 * np.linalg.norm(want)


def test_without_its_mean_a_stream_has_a_dimension_less():
    graph = decoder(centred=True)
    (stream,) = streams(graph)
    basis = principal(graph, stream, rows(graph, stream))
    one = feeds()
    want = exact(graph, one)
    after = rotated(graph, stream, basis[:, : D - 1])
    assert np.linalg.norm(exact(after, one) - want) < 1e-5 * np.linalg.norm(want)


@pytest.mark.parametrize("which", ["output", "tanh", "mixed", "norm read", "norm out", "input"])
def test_what_is_read_in_another_way_is_no_stream(which):
    draft = Draft(bounds=(1, 64))
    ids = draft.input("ids", "i64", "batch", "seq")
    x = draft(Gather, x=draft.constant(weights(WORDS, D)), indices=ids, axis=0)
    if which == "input":
        x = draft(Add, a=x, b=draft.input("x", "f32", "batch", "seq", D))
    n = draft(RmsNorm, x=x, axis=2, eps=1e-3)
    y = draft(Contract, a=n, b=draft.constant(weights(D, D)), spec="bsk,kn->bsn")
    more = draft(Add, a=x, b=y)
    last = draft(LayerNorm if which == "mixed" else RmsNorm, x=more, axis=2, eps=1e-3)
    logits = draft(Contract, a=last, b=draft.constant(weights(D, 5)), spec="bsk,kn->bsn")
    if which == "output":
        graph = draft.graph(logits, more)
    elif which == "tanh":
        graph = draft.graph(logits, draft(Tanh, x=x))
    elif which == "norm read":
        graph = draft.graph(logits, draft(Tanh, x=n))
    elif which == "norm out":
        graph = draft.graph(logits, last)
    else:
        graph = draft.graph(logits)
    assert streams(graph) == []

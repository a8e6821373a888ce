"""Fewer hidden channels of whole graphs, against running them."""

import numpy as np
import pytest
from support.draft_graph import Draft

from tilewright.backends import reference
from tilewright.compiler.ir.ops.binary import Add, Mul
from tilewright.compiler.ir.ops.contraction import Contract, Conv
from tilewright.compiler.ir.ops.unary import Relu, Silu, Tanh
from tilewright.compiler.ir.weights import from_array
from tilewright.passes.quantization.calibration import calibrate
from tilewright.passes.shrinking.ladders import ladders
from tilewright.passes.shrinking.narrowing import shrunk
from tilewright.passes.shrinking.rungs import LEAST

RANDOM = np.random.default_rng(11)
HIDDEN = 64


def native(graph):
    return lambda feeds: dict(zip(graph.output_names, reference.run(graph, feeds), strict=True))


def weights(*shape):
    return (RANDOM.standard_normal(shape) / np.sqrt(shape[-2])).astype(np.float32)


def copied(w, axis=-1):
    """The second half of the channels are copies of the first, in another order."""
    half = HIDDEN // 2
    made = np.moveaxis(w, axis, -1).copy()
    made[..., half:] = made[..., :half][..., np.roll(np.arange(half), 5)]
    return np.moveaxis(made, -1, axis)


def gated(make, spec="mk,kn->mn", turn=False):
    """A residual gated layer: down(silu(gate) * (up + bias)). turn: down is stored [N, K]."""
    draft = Draft(bounds=(1, 300))
    x = draft.input("x", "f32", "rows", 24)
    gate = draft(Contract, a=x, b=draft.constant(make(weights(24, HIDDEN))), spec=spec)
    up = draft(Contract, a=x, b=draft.constant(make(weights(24, HIDDEN))), spec=spec)
    up = draft(Add, a=up, b=draft.constant(make(weights(1, HIDDEN))[0]))
    h = draft(Mul, a=draft(Silu, x=gate), b=up)
    down = weights(HIDDEN, 24)
    down = draft.constant(np.ascontiguousarray(down.T) if turn else down)
    back = "mk,nk->mn" if turn else spec
    y = draft(Contract, a=h, b=down, spec=back, source="down")
    return draft.graph(draft(Add, a=x, b=y))


def convolved(make):
    """Two 3x3 convolutions, the first with a bias and ReLU, pads and a stride in the second."""
    draft = Draft(bounds=(1, 8))
    x = draft.input("x", "f32", "batch", 9, 8, 6)
    geometry = {"pads_low": (1, 1), "pads_high": (1, 1), "dilations": (1, 1), "groups": 1}
    first = draft.constant(make(weights(3, 3, 6, HIDDEN)))
    h = draft(Conv, x=x, w=first, strides=(1, 1), **geometry)
    h = draft(Relu, x=draft(Add, a=h, b=draft.constant(make(weights(1, HIDDEN))[0])))
    second = draft.constant(weights(3, 3, HIDDEN, 10))
    return draft.graph(draft(Conv, x=h, w=second, strides=(2, 1), source="down", **geometry))


def turned(make):
    """Columns of weights in two axes, and a result in another order."""
    draft = Draft(bounds=(1, 300))
    x = draft.input("x", "f32", "rows", 24)
    up = draft.constant(make(weights(24, HIDDEN)))
    h = draft(Tanh, x=draft(Contract, a=x, b=up, spec="mk,kn->mn"))
    down = draft.constant(weights(4, HIDDEN, 6))
    return draft.graph(draft(Contract, a=h, b=down, spec="mk,akb->amb", source="down"))


def samples(graph, count=8):
    shape = [200 if i == 0 else d for i, d in enumerate(graph.inputs[0].shape)]
    shape[0] = 4 if len(shape) == 4 else 200
    return [{"x": RANDOM.standard_normal(shape).astype(np.float32)} for _ in range(count)]


CASES = {
    "gated": gated,
    "transposed": lambda make: gated(make, turn=True),
    "convolutions": convolved,
    "two axes": turned,
}


@pytest.mark.parametrize("case", CASES)
def test_copies_are_left_out_without_error(case):
    graph = CASES[case](copied)
    feeds = samples(graph)
    (found,) = ladders(graph, calibrate(graph, feeds, native))
    assert (found.source, found.size) == ("down", HIDDEN)
    assert [r.kept for r in found.rungs] == list(range(HIDDEN - 8, int(LEAST * HIDDEN) - 1, -8))
    half = found.at(0.5)
    assert half.kept == HIDDEN // 2
    assert half.local < 1e-3
    smaller = shrunk(graph, {found: half})
    # float64 results of both, on rows that nothing was fitted to
    (other,) = samples(graph, 1)
    want, got = (reference.run(g, other, precision="f64")[0] for g in (graph, smaller))
    assert np.linalg.norm(got - want) < 1e-3 * np.linalg.norm(want)
    stored = {v.op.name: v.shape for op in smaller.ops for v in op.results if _constant(v)}
    sizes = [d for shape in stored.values() for d in shape]
    assert HIDDEN not in sizes
    assert sizes.count(HIDDEN // 2) >= 2


def _constant(value):
    return type(value.op).__name__ == "Constant"


@pytest.mark.parametrize("case", ["gated", "convolutions"])
def test_errors_are_what_the_narrower_graph_makes(case):
    graph = CASES[case](lambda w: w)
    feeds = samples(graph, 12)
    calibration = calibrate(graph, feeds, native)
    (found,) = ladders(graph, calibration)
    rung = found.at(0.75)
    smaller = shrunk(graph, {found: rung})
    other = samples(graph, 4)
    off = whole = 0.0
    for one in other:
        want, got = (reference.run(g, one)[0] for g in (graph, smaller))
        off += float(np.sum((got - want).astype(np.float64) ** 2))
        whole += float(np.sum(want.astype(np.float64) ** 2))
    predicted = np.sqrt(rung.squares[0])
    assert predicted / 1.3 < np.sqrt(off / whole) < predicted * 1.3


@pytest.mark.parametrize("case", ["gated", "convolutions"])
def test_independent_channels_are_needed(case):
    """Of random weights not a sixteenth of the channels can go under 1 %."""
    graph = CASES[case](lambda w: w)
    calibration = calibrate(graph, samples(graph), native)
    (found,) = ladders(graph, calibration, [1e-4])
    assert [r.kept for r in found.rungs] == [HIDDEN - 8]
    assert np.sqrt(found.rungs[0].squares[0]) > 0.01


def test_half_precision_weights_stay_so():
    graph = gated(lambda w: w)
    named = {n: graph.weights.array(n).astype(np.float16) for n in graph.weights}
    halves = {n: from_array(a.astype(np.float32)) for n, a in named.items()}
    graph = graph.replace(weights=graph.weights.merged(halves))
    (found,) = ladders(graph, calibrate(graph, samples(graph), native))
    smaller = shrunk(graph, {found: found.at(0.75)})
    assert all(smaller.weights[name].halves for name in smaller.weights)


def test_what_is_not_free_stays():
    graph = gated(copied)
    calibration = calibrate(graph, samples(graph), native)
    assert ladders(graph, calibration, free=lambda source: source != "down") == []
    assert ladders(graph, calibration, free=lambda source: "silu" not in source)


def test_channels_that_others_read_stay():
    """An output, a residual and a second product."""
    for which in ("output", "residual", "second"):
        draft = Draft(bounds=(1, 300))
        x = draft.input("x", "f32", "rows", HIDDEN)
        h = draft(Contract, a=x, b=draft.constant(weights(HIDDEN, HIDDEN)), spec="mk,kn->mn")
        h = draft(Tanh, x=h)
        y = draft(Contract, a=h, b=draft.constant(weights(HIDDEN, HIDDEN)), spec="mk,kn->mn")
        if which == "output":
            graph = draft.graph(y, h)
        elif which == "residual":
            graph = draft.graph(draft(Add, a=y, b=h))
        else:
            w = draft.constant(weights(HIDDEN, 8))
            graph = draft.graph(y, draft(Contract, a=h, b=w, spec="mk,kn->mn"))
        assert ladders(graph, calibrate(graph, samples(graph), native)) == []

"""Which channels are left out: against all choices, and what is said of each."""

from itertools import product
from types import SimpleNamespace

import numpy as np
import pytest
from support.draft_graph import Draft

from tilewright.compiler.ir.ops.contraction import Contract
from tilewright.compiler.ir.ops.unary import Tanh
from tilewright.passes.shrinking.choice import choose, record
from tilewright.passes.shrinking.ladders import ChannelLadder, ChannelRung
from tilewright.passes.structure.channels import hidden_channels

RANDOM = np.random.default_rng(5)


def ladder(hidden, errors, rows=("rows",)):
    """Of `hidden` channels between 16 and 8 others; errors: of one output, by rungs of 8."""
    draft = Draft(bounds=(1, 300))
    x = draft.input("x", "f32", *rows, 16)
    up, down = (draft.constant(np.ones(s, np.float32)) for s in ((16, hidden), (hidden, 8)))
    h = draft(Tanh, x=draft(Contract, a=x, b=up, spec="mk,kn->mn"))
    graph = draft.graph(draft(Contract, a=h, b=down, spec="mk,kn->mn", source="down"))
    (channels,) = hidden_channels(graph)
    rungs = (
        ChannelRung(e, (e**2,), np.arange(hidden - 8 * (i + 1)), np.zeros((1, 1, 1)))
        for i, e in enumerate(errors)
    )
    return ChannelLadder(tuple(rungs), channels)


def saved(picked, found):
    return sum((f.size - picked[f].kept) * 24 for f in found if f in picked)


@pytest.mark.parametrize("limit", [0.0, 1e-4, 4e-4, 1.0])
def test_the_choice_is_the_best_of_all(limit):
    found = [ladder(n, np.sort(RANDOM.uniform(0, 0.03, 3))) for n in (32, 64, 48)]
    every = []
    for places in product(range(4), repeat=3):
        picked = {f: f.rungs[at - 1] for f, at in zip(found, places, strict=True) if at}
        if sum(r.squares[0] for r in picked.values()) <= limit:
            every.append(saved(picked, found))
    assert saved(choose(found, [limit], by_size=True), found) == max(every)


def test_little_is_not_worth_a_change():
    """8 of 512 channels, in 1.6 % of the numbers."""
    assert choose([ladder(512, [0.001])], [1.0], by_size=True) == {}
    assert choose([ladder(256, [0.001])], [1.0], by_size=True)


def test_time_counts_where_no_size_is_asked_for():
    """Without a machine, prices count multiplications and constants: the greater saving wins."""
    found = [ladder(64, [0.01]), ladder(32, [0.01])]
    chosen = choose(found, [1.5e-4], by_size=False)
    assert list(chosen.values()) in ([found[0].rungs[0]], [found[1].rungs[0]])
    assert choose([], [1e-4], by_size=False) == {}


def test_what_is_said():
    found = [ladder(64, [0.01]), ladder(32, [0.02]), ladder(16, [0.001])]
    chosen = {found[0]: found[0].rungs[0]}
    rows = record(found, chosen, [1.44e-4])
    assert [(r.source, r.weight, r.applied) for r in rows] == [
        ("down", "w1", True),
        ("down", "w1", False),
        ("down", "w1", False),
    ]
    assert [r.found for r in rows] == [
        "hidden channels: without 8 of 64 sums are 1.00% off, of independent ones 35.36%",
        "hidden channels: without 8 of 32 sums are 2.00% off, of independent ones 50.00%",
        "hidden channels: without 8 of 16 sums are 0.10% off, of independent ones 70.71%",
    ]
    assert [r.text for r in rows] == [
        "56 of 64 stay, predicted error 0.01",
        "predicted error 0.02, 0.012 is allowed",
        "predicted error 0.001, but it saves too little",
    ]
    (first, *_) = record(found, chosen, [1.44e-4], "given up: no better")
    assert (first.applied, first.text) == (
        False,
        "56 of 64 stay, predicted error 0.01; given up: no better",
    )


def test_models_without_float_outputs():
    """Nothing limits what nothing measures."""
    made = SimpleNamespace(rungs=(ChannelRung(0.5, (), np.arange(8), np.zeros((1, 1, 1))),))
    one = ladder(16, [0.5])
    (row,) = record([ChannelLadder(made.rungs, one.channels)], {}, [])
    assert row.text == "predicted error 0, but it saves too little"

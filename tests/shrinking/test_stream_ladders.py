"""Fewer directions of residual streams: what is predicted, against running the narrower graph."""

import numpy as np
import pytest
from support.stream_graph import WORDS, D, decoder, feeds, few_dimensions

from tilewright.backends import reference
from tilewright.passes.quantization.calibration import calibrate
from tilewright.passes.shrinking.choice import choose
from tilewright.passes.shrinking.ladders import ladders
from tilewright.passes.shrinking.narrowing import shrunk
from tilewright.passes.shrinking.stream_ladders import stream_ladders


def native(graph):
    return lambda one: dict(zip(graph.output_names, reference.run(graph, one), strict=True))


def calibrated(graph):
    return calibrate(graph, [feeds() for _ in range(12)], native)


def deviation(graph, smaller):
    off = whole = 0.0
    for _ in range(6):
        one = feeds()
        want, got = (reference.run(g, one, precision="f64")[0] for g in (graph, smaller))
        off += np.sum((got - want) ** 2)
        whole += np.sum(want**2)
    return np.sqrt(off / whole)


@pytest.mark.parametrize("centred", [False, True])
def test_directions_that_are_not_used_are_left_out(centred):
    graph = few_dimensions(9, centred)
    calibration = calibrated(graph)
    (found,) = stream_ladders(graph, calibration)
    assert (found.what, found.size) == ("residual stream", D)
    assert [r.kept for r in found.rungs] == [16, 8]
    assert found.rungs[0].squares[0] < 1e-10
    assert found.rungs[1].squares[0] > 1e-6
    limits = [1e-6]
    # The channels of each block go too, as far as they can.
    chosen = choose([found, *ladders(graph, calibration, limits)], limits, by_size=True)
    assert chosen[found] is found.rungs[0]
    assert deviation(graph, shrunk(graph, chosen)) < 3 * np.sqrt(limits[0])


def test_a_table_that_is_multiplied_with_too_is_stored_twice():
    """So that the rotation alone stores more: what is left out has to make up for it."""
    graph = decoder()
    (found,) = stream_ladders(graph, calibrated(graph))
    blocks = 2 * 3 * D * 40
    assert found.numbers(D) == WORDS * D + blocks
    assert found.numbers(16) == (2 * WORDS * D + blocks) * 16 // D


def test_all_directions_of_random_weights_are_needed():
    """And the error that is predicted is about the one that is made."""
    graph = decoder()
    (found,) = stream_ladders(graph, calibrated(graph), [1e-4])
    (rung,) = found.rungs
    predicted = np.sqrt(rung.squares[0])
    assert predicted > 0.01
    made = deviation(graph, shrunk(graph, {found: rung}))
    assert predicted / 2 < made < predicted * 2


def test_what_is_not_free_stays():
    graph = decoder()
    assert (
        stream_ladders(graph, calibrated(graph), free=lambda source: "gather" not in source) == []
    )

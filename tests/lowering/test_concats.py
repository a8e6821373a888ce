"""Parts of an output that is a concatenation: made in their place, copied where that cannot be."""

import pytest
from support.compiled_graph import check_graph, labels
from support.draft_graph import Draft

from tilewright.compiler.ir.ops import unary
from tilewright.compiler.ir.ops.nn import Attention
from tilewright.compiler.ir.ops.shape import Concat, Reshape, Slice

ENVS = ({"b": 2, "p": 5}, {"b": 1, "p": 1}, {"b": 3, "p": 33})


def decoder(layers: int) -> tuple[Draft, list, list]:
    """Attention over past and new keys of every layer; the outputs and the present of each."""
    d = Draft((0, 64))
    past = d.input("past", "f32", layers, "b", 2, "p", 8)
    symbol = past.shape[3]
    x = d.input("x", "f32", past.shape[1], 4, 1, 8)
    news = [d.input(f"new{i}", "f32", past.shape[1], 2, 1, 8) for i in range(layers)]
    presents = []
    for i, new in enumerate(news):
        shape = (1, past.shape[1], 2, symbol, 8)
        layer = d(Slice, x=past, starts=(i, 0, 0, 0, 0), steps=(1,) * 5, shape=shape)
        layer = d(Reshape, x=layer, shape=shape[1:])
        both = d(Concat, parts=(layer, new), axis=2)
        presents.append(both)
        x = d(Attention, q=x, k=both, v=both, scale=0.4)
    return d, x, presents


def test_keys_and_values_are_written_once() -> None:
    """No launch but the concatenation of each layer: its attention reads the output's memory."""
    d, y, presents = decoder(3)
    rows = [d(Reshape, x=p, shape=(1, *p.shape)) for p in presents]
    low = check_graph(d.graph(y, d(Concat, parts=tuple(rows), axis=0)), *ENVS)
    assert labels(low).count("concat") == 3
    assert "copy" not in labels(low)
    places = {
        (place.kind, place.index)
        for launch in low.launches
        if "attention" in launch.label
        for place in launch.operands[1:3]
    }
    assert places == {("output", 1)}


def test_a_part_that_is_an_output_itself_is_copied() -> None:
    d, y, presents = decoder(2)
    rows = [d(Reshape, x=p, shape=(1, *p.shape)) for p in presents]
    check_graph(d.graph(y, d(Concat, parts=tuple(rows), axis=0), presents[0]), *ENVS)


def test_a_part_used_twice_is_copied_once() -> None:
    d, y, presents = decoder(2)
    rows = [d(Reshape, x=presents[i], shape=(1, *presents[i].shape)) for i in (1, 0, 1)]
    check_graph(d.graph(y, d(Concat, parts=tuple(rows), axis=0)), *ENVS)


@pytest.mark.parametrize("axis", [0, 1])
def test_parts_that_are_inputs_or_not_one_block(axis: int) -> None:
    d = Draft((0, 64))
    x = d.input("x", "f32", 3, "b", 5)
    y = d.input("y", "f32", 3, x.shape[1], 5)
    inner = d(Concat, parts=(x, y), axis=1)
    other = d(unary.Neg, x=inner)
    check_graph(d.graph(d(Concat, parts=(inner, other, inner), axis=axis)), {"b": 2}, {"b": 1})

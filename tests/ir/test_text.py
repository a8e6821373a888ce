"""Printing and parsing: round trips, located errors, weights by content and by hash."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilewright.compiler.errors import ParseError
from tilewright.compiler.ir.core import Graph
from tilewright.compiler.ir.dims import dmax, dmin, floordiv, mod, sym
from tilewright.compiler.ir.ops.leaf import Constant, Fill
from tilewright.compiler.ir.parse import parse_graph
from tilewright.compiler.ir.print import print_graph
from tilewright.compiler.ir.text import parse_dim
from tilewright.compiler.ir.types import BY_LABEL, TensorType
from tilewright.compiler.ir.weights import WeightStore, from_array

TEXT = (Path(__file__).parent / "everything.ir").read_text()
"""A graph with one of everything; line numbers below count from its first line."""


def test_round_trip() -> None:
    graph = parse_graph(TEXT)
    assert print_graph(graph) == TEXT
    assert graph.output_names == ("y0", "odd name")
    assert graph.weights.array("q").tolist() == [-8, 0, 7]
    assert math.copysign(1, graph.weights.array("w").reshape(-1)[2]) == -1


def test_large_weights_are_found_by_hash() -> None:
    array = np.arange(40, dtype=np.float32)
    weight = from_array(array)
    constant = Constant(name="big", type=weight.type)
    graph = Graph(
        "g", (), (constant,), (constant.out,), ("y0",), weights=WeightStore({"big": weight})
    )
    text = print_graph(graph)
    assert "sha256" in text
    renamed = WeightStore({"other": from_array(np.zeros(40, np.float32)), "same": weight})
    assert (parse_graph(text, weights=renamed).weights.array("big") == array).all()
    with pytest.raises(ParseError, match="no weight f32"):
        parse_graph(text)


@given(st.lists(st.floats(width=32), min_size=1, max_size=32))
def test_f32_elements_keep_their_bits(values: list[float]) -> None:
    array = np.array(values, np.float32)
    array[np.isnan(array)] = np.nan
    store = WeightStore({"w": from_array(array)})
    constant = Constant(name="w", type=store["w"].type)
    graph = Graph("g", (), (constant,), (constant.out,), ("y0",), weights=store)
    read = parse_graph(print_graph(graph)).weights.array("w")
    assert (read.view(np.uint32) == array.view(np.uint32)).all()


@given(st.one_of(st.floats(), st.integers(-(2**63), 2**63 - 1), st.booleans()))
def test_literals_keep_type_and_value(value: float | int | bool) -> None:
    fill = Fill(value=value, type=TensorType(BY_LABEL["f64"], ()))
    graph = Graph("g", (), (fill,), (fill.out,), ("y0",))
    (read,) = parse_graph(print_graph(graph)).ops
    assert isinstance(read, Fill)
    assert type(read.value) is type(value)
    assert repr(read.value) == repr(value)


def dims():
    leaf = st.one_of(st.integers(-9, 9), st.sampled_from("abc").map(sym))
    any_two = [lambda a, b: a + b, lambda a, b: a - b, lambda a, b: a * b, dmin, dmax]

    def grow(inner):
        both = st.tuples(st.sampled_from(any_two), inner, inner)
        by_number = st.tuples(st.sampled_from([floordiv, mod]), inner, st.integers(1, 9))
        return st.one_of(both, by_number).map(lambda x: x[0](x[1], x[2]))

    return st.recursive(leaf, grow, max_leaves=6)


@given(dims())
def test_parse_dim_is_the_inverse_of_str(dim) -> None:
    assert parse_dim(str(dim)) == dim


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "%2 = contract %x",
            "%2 = contract %q",
            (
                "t.ir:20:17: %q is not defined\n"
                '    %2 = contract %q, %1 {spec = "mk,kn->mn"} : f32[batch, 2]  @"node/na\\"me"\n'
                "                  ^"
            ),
        ),
        (
            '"mk,kn->mn"} :',
            '"mk,nk->mn"} :',
            (
                "t.ir:20:3: contract: 'k' is 8 and 2 in 'mk,nk->mn'\n"
                '    %2 = contract %x, %1 {spec = "mk,nk->mn"} : f32[batch, 2]  @"node/na\\"me"\n'
                "    ^"
            ),
        ),
        (
            "top_k",
            "topk",
            (
                "t.ir:21:12: unknown operation 'topk'\n"
                "    %3, %4 = topk %2 {k = 1, axis = 1} : f32[batch, 1], i64[batch, 1]\n"
                "             ^\n"
                "  try: did you mean 'top_k'?"
            ),
        ),
        (
            "f32[batch, 1], i64[batch, 1]",
            "f32[batch, 1], i32[batch, 1]",
            (
                "t.ir:21:3: top_k gives f32[batch, 1], i64[batch, 1], not the type written here\n"
                "    %3, %4 = top_k %2 {k = 1, axis = 1} : f32[batch, 1], i32[batch, 1]\n"
                "    ^"
            ),
        ),
        (
            '"t t": bool[2]',
            '"t t": bool[3]',
            (
                "t.ir:15:23: 2 elements do not fill bool[3]\n"
                '      @"t t": bool[3] = [true, false]\n'
                "                        ^"
            ),
        ),
    ],
)
def test_errors_point_at_the_place(old: str, new: str, message: str) -> None:
    with pytest.raises(ParseError) as error:
        parse_graph(TEXT.replace(old, new, 1), "t.ir")
    assert str(error.value) == message

"""Chunks of work that are worth a thread: none shorter, none against a kernel's own grain."""

import pytest
from support.compiled_graph import check_graph
from support.draft_graph import Draft, weights

from tilewright.backends.llvm.grains import BYTES, CHUNK, FLOPS, coarsen
from tilewright.backends.llvm.program import Branch, Copy, Launch, Place, Repeat
from tilewright.compiler.ir.dims import Dim, evaluate, sym
from tilewright.compiler.ir.ops import reduce, unary
from tilewright.compiler.ir.ops.contraction import Contract

n = sym("n")


def launch(units: Dim, grain: Dim, flops: Dim = 0, traffic: Dim = 0) -> Launch:
    return Launch("spec", (), (), units, grain, 0, "label", "", (), flops, traffic)


def grain(step: Launch, size: int = 1) -> int:
    [made] = coarsen([step])
    assert isinstance(made, Launch)
    return evaluate(made.grain, {"n": size})


@pytest.mark.parametrize("own", [1, 3, 8])
@pytest.mark.parametrize("size", [1, 7, 100, 5000])
def test_chunks_take_long_enough_and_no_longer(own: int, size: int) -> None:
    step = launch(10 * n, own, 320 * n, 64 * n + 640)
    found = grain(step, size)
    assert found % own == 0
    each = (320 * size / FLOPS + (64 * size + 640) / BYTES) / (10 * size)
    assert found * each >= CHUNK
    assert (found - own) * each < CHUNK


def test_launches_whose_work_is_long_or_unknown_keep_their_grain() -> None:
    assert grain(launch(64, 4, 10**9)) == 4
    assert grain(launch(64, 4)) == 4
    assert grain(launch(1, 1, 64)) == 1
    assert grain(launch(16, 1, 6400)) >= 16, "one chunk: nobody is woken"


def test_steps_inside_of_others_are_coarsened_too() -> None:
    place = Place("arena", 0)
    copy, small = Copy(place, place, 4), launch(16, 1, 6400)
    branch = Branch(place, (small,), (copy, small))
    [made] = coarsen([Repeat("i", 3, None, (branch, small))])
    assert isinstance(made, Repeat)
    [inner, last] = made.body
    assert isinstance(inner, Branch)
    assert last == inner.then[0] == inner.otherwise[1] == coarsen([small])[0] != small
    assert inner.otherwise[0] == copy


@pytest.mark.parametrize("threads", [1, 3])
def test_sizes_from_none_to_many_chunks(threads: int) -> None:
    d = Draft((0, None))
    x = d.input("x", "f32", "n", 48)
    y = d(unary.Tanh, x=d(Contract, a=x, b=d.constant(weights(48, 64)), spec="mk,kn->mn"))
    graph = d.graph(y, d(reduce.Reduce, x=y, kind="max", axes=(1,)))
    envs = ({"n": 0}, {"n": 1}, {"n": 37}, {"n": 3000})
    check_graph(graph, *envs, special=False, threads=threads, scale=5)

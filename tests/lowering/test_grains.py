"""Chunks of work that are worth a thread: none shorter, none against a kernel's own grain."""

from dataclasses import replace

import pytest
from support.compiled_graph import check_graph
from support.draft_graph import Draft, weights

from tilewright.backends.kernels.f32_matmul.spec import MatmulSpec
from tilewright.backends.llvm.grains import REGIONS, coarsen
from tilewright.backends.llvm.program import Branch, Copy, Launch, Place, Repeat
from tilewright.backends.profile import shipped
from tilewright.backends.target import lookup
from tilewright.compiler.driver import lower_for
from tilewright.compiler.ir.dims import Dim, evaluate, sym
from tilewright.compiler.ir.ops import reduce, unary
from tilewright.compiler.ir.ops.contraction import Contract
from tilewright.compiler.ir.ops.shape import Gather

n = sym("n")
TARGET = lookup("x86-64-v4")
PROFILE = shipped()[TARGET.name]


def launch(units: Dim, grain: Dim, flops: Dim = 0, traffic: Dim = 0, spec: object = "") -> Launch:
    return Launch(spec, (), (64,), units, grain, 0, "label", "", (), flops, traffic)


def least(step: Launch, size: int = 1) -> int:
    [made] = coarsen([step], TARGET, PROFILE)
    assert isinstance(made, Launch)
    assert made.grain == step.grain
    return evaluate(made.least, {"n": size})


@pytest.mark.parametrize("own", [1, 3, 8])
@pytest.mark.parametrize("size", [1, 7, 100, 5000])
def test_shares_take_long_enough_and_no_longer(own: int, size: int) -> None:
    found = least(launch(10 * n, own, 320 * n, 64 * n + 640), size)
    work = 320 * size / PROFILE.vector + (64 * size + 640) / PROFILE.read.l2.one
    each, wanted = work / (10 * size), REGIONS * PROFILE.region_ns * 1e-9
    assert found * each >= wanted * 0.999
    assert (found - 1) * each < wanted * 1.001


def test_launches_whose_work_is_long_or_unknown_are_shared() -> None:
    assert least(launch(64, 4, 10**9)) == 1
    assert least(launch(64, 4)) == 1
    assert least(launch(1, 1, 64)) == 1
    assert least(launch(16, 1, 6400)) >= 16, "one chunk: nobody is woken"


def test_products_stream_their_weights() -> None:
    product = launch(64, 1, 0, 10**6, MatmulSpec(64, 64))
    assert least(product) < least(launch(64, 1, 0, 10**6))
    slower = replace(PROFILE, region_ns=4 * PROFILE.region_ns)
    [made] = coarsen([product], TARGET, slower)
    assert isinstance(made, Launch)
    assert made.least == pytest.approx(4 * least(product), abs=4)


def test_gathers_read_the_rows_that_they_take() -> None:
    d = Draft((1, None))
    rows = d(Gather, x=d.constant(weights(1000, 64)), indices=d.input("i", "i64", "n"), axis=0)
    lowered, _ = lower_for(d.graph(rows), TARGET)
    [found] = lowered.launches
    assert evaluate(found.bytes, {"n": 5}) < 5 * (4 * 64 * 2 + 8) + 1


def test_steps_inside_of_others_are_coarsened_too() -> None:
    place = Place("arena", 0)
    copy, small = Copy(place, place, 4), launch(16, 1, 6400)
    branch = Branch(place, (small,), (copy, small))
    [made] = coarsen([Repeat("i", 3, None, (branch, small))], TARGET, PROFILE)
    assert isinstance(made, Repeat)
    [inner, last] = made.body
    assert isinstance(inner, Branch)
    [alone] = coarsen([small], TARGET, PROFILE)
    assert last == inner.then[0] == inner.otherwise[1] == alone != small
    assert inner.otherwise[0] == copy


@pytest.mark.parametrize("threads", [1, 3])
def test_sizes_from_none_to_many_chunks(threads: int) -> None:
    d = Draft((0, None))
    x = d.input("x", "f32", "n", 48)
    y = d(unary.Tanh, x=d(Contract, a=x, b=d.constant(weights(48, 64)), spec="mk,kn->mn"))
    graph = d.graph(y, d(reduce.Reduce, x=y, kind="max", axes=(1,)))
    envs = ({"n": 0}, {"n": 1}, {"n": 37}, {"n": 3000})
    check_graph(graph, *envs, special=False, threads=threads, scale=5)

"""The order of a program's steps: fewer bytes alive, the same numbers."""

import numpy as np
import pytest
from support.compiled_graph import build, check_graph, random_feeds, run_artifact
from support.draft_graph import Draft, tensor, weights
from support.random_graphs import ENVS, random_graph

from tilewright.backends.llvm.backend import Lowered
from tilewright.compiler.ir.core import Graph, Value
from tilewright.compiler.ir.dims import sym
from tilewright.compiler.ir.ops import binary, reduce, shape, unary
from tilewright.compiler.ir.ops.contraction import Contract
from tilewright.compiler.ir.ops.control import If, NonZero
from tilewright.passes.memory.planner import MemoryPlanner

n, count = sym("n"), sym("count")


def turns(lowered: Lowered) -> str:
    """W for every launch that widens, N for every one that narrows."""
    letters = {"wide": "W", "narr": "N"}
    return "".join(letters.get(launch.source[:4], "") for launch in lowered.launches)


def breadth_first(branches: int) -> Graph:
    """Every branch widens an input and narrows it again; all of them widen before the first
    narrows."""
    d = Draft((1, 64))
    xs = [d.input(f"x{i}", "f32", "n", 16) for i in range(branches)]
    wide = [d(Contract, a=x, b=d.constant(weights(16, 256, seed=i)), spec="mk,kn->mn",
              source=f"wide{i}") for i, x in enumerate(xs)]  # fmt: skip
    narrow = [d(Contract, a=w, b=d.constant(weights(256, 4, seed=i)), spec="mk,kn->mn",
                source=f"narrow{i}") for i, w in enumerate(wide)]  # fmt: skip
    total = narrow[0]
    for value in narrow[1:]:
        total = d(binary.Add, a=total, b=value)
    return d.graph(total)


def test_branches_run_one_after_the_other() -> None:
    low = check_graph(breadth_first(4), {"n": 5}, {"n": 64}, special=False, scale=10)
    assert turns(low) == "WNWNWNWN"
    wide = [row for row in low.memory if row.bytes == 1024 * n]
    assert len(wide) == 4
    for i, a in enumerate(wide):
        assert all(a.end <= b.first or b.end <= a.first for b in wide[:i])


def unordered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compile in the order of the graph."""

    def as_given(self: object, accesses: list, rows: list) -> range:
        return range(len(accesses))

    monkeypatch.setattr(MemoryPlanner, "order", as_given)


def test_the_order_of_the_graph_needs_more(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    graph = breadth_first(4)
    small = build(graph, tmp_path / "a.tw")
    unordered(monkeypatch)
    large = build(graph, tmp_path / "b.tw")
    assert turns(large) == "WWWWNNNN"
    assert large.layout.arena > 2 * small.layout.arena
    given = [weights(7, 16, seed=i) for i in range(4)]
    one, two = (run_artifact(tmp_path / f"{k}.tw", graph, given)[0] for k in "ab")
    assert one.tobytes() == two.tobytes()


def data_sized(d: Draft, condition: Value) -> tuple[Value, ...]:
    """Rows of x chosen by their first element, wide ones from them, and a branch."""
    x = d.input("x", "f32", "n", 6)
    first = d(shape.Slice, x=x, starts=(0, 0), steps=(1, 1), shape=(n, 1))
    positive = d(binary.Gt, a=d(shape.Reshape, x=first, shape=(n,)), b=d.constant(np.float32(0)))
    where = d(NonZero, x=positive, count=d.data_symbol("count", n))
    rows = d(shape.Reshape, x=where, shape=(count,))
    picked = d(shape.Gather, x=x, indices=rows, axis=0)
    wide = [d(Contract, a=v, b=d.constant(weights(6, 300, seed=i)), spec="mk,kn->mn")
            for i, v in enumerate((x, picked, x, picked))]  # fmt: skip
    chosen = d(If, condition=condition,
               then_body=d.region((), lambda: d(unary.Exp, x=wide[1])),
               else_body=d.region((), lambda: d(unary.Neg, x=wide[3])))  # fmt: skip
    narrow = [d(reduce.Reduce, x=w, kind="sum", axes=(0,)) for w in (*wide, chosen)]
    total = narrow[0]
    for value in narrow[1:]:
        total = d(binary.Add, a=total, b=value)
    return total, rows, d(unary.Neg, x=picked)


@pytest.mark.parametrize("choice", [True, False])
def test_sizes_that_data_decide_come_before_their_use(choice: bool) -> None:
    d = Draft((0, 64))
    outputs = data_sized(d, d.input("c", "bool"))
    graph = d.graph(*outputs)
    for rows in (9, 1, 0):
        check_graph(graph, feeds=[np.array(choice), weights(rows, 6)], special=False, scale=20)


@pytest.mark.parametrize("seed", range(0, 60, 4))
def test_random_programs_give_equal_bits_in_both_orders(
    seed: int, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = random_graph(seed)
    build(graph, tmp_path / "a.tw")
    unordered(monkeypatch)
    build(graph, tmp_path / "b.tw")
    for env in (ENVS[0], ENVS[-1]):
        feeds = random_feeds(graph, env, seed)
        for one, two in zip(*(run_artifact(tmp_path / f"{k}.tw", graph, feeds) for k in "ab"),
                            strict=True):  # fmt: skip
            assert one.tobytes() == two.tobytes()


def test_outputs_that_later_steps_read_are_written_first() -> None:
    d = Draft((1, 64))
    x = d.input("x", "f32", "n", 16)
    kind = tensor("f32", "n", 16)
    assert x.type == kind
    first = d(unary.Exp, x=x)
    wide = [d(Contract, a=first, b=d.constant(weights(16, 256, seed=i)), spec="mk,kn->mn")
            for i in range(3)]  # fmt: skip
    narrow = [d(Contract, a=w, b=d.constant(weights(256, 16, seed=9)), spec="mk,kn->mn")
              for w in wide]  # fmt: skip
    joined = d(shape.Concat, parts=(*narrow, first), axis=1)
    check_graph(d.graph(first, joined, *narrow[:1]), {"n": 3}, {"n": 40}, special=False, scale=20)

"""Where values live: outputs that are other values, shared buffers, strides, sizes from data."""

import numpy as np
import pytest
from support.compiled_graph import build, check_graph, labels, run_artifact
from support.draft_graph import Draft, tensor, weights

from tilewright.backends import reference
from tilewright.compiler.ir.dims import sym
from tilewright.compiler.ir.ops import binary, leaf, reduce, shape, unary
from tilewright.compiler.ir.ops.contraction import Contract
from tilewright.compiler.ir.ops.control import Compress, Guard, If, NonZero

n, count = sym("n"), sym("count")
ENVS = ({"n": 4}, {"n": 1}, {"n": 0}, {"n": 9})


def test_outputs_that_are_inputs_constants_each_other_and_one_value_twice() -> None:
    d = Draft()
    x, k = d.input("x", "f32", "n", 6), d.constant(weights(5, 6))
    y = d(unary.Neg, x=x)
    flat = d(shape.Reshape, x=y, shape=(n * 6,))
    turned = d(shape.Transpose, x=y, perm=(1, 0))
    part = d(shape.Slice, x=y, starts=(0, 2), steps=(1, 2), shape=(n, 2))
    outputs = (x, k, y, flat, turned, y, x, part, d(shape.Transpose, x=k, perm=(1, 0)))
    check_graph(d.graph(*outputs), *ENVS)


def test_an_output_that_is_used_later_and_overwritten_by_no_one() -> None:
    d = Draft()
    x = d.input("x", "f32", "n", 6)
    first = d(unary.Exp, x=x)
    second = d(unary.Neg, x=first)
    third = d(binary.Add, a=d(unary.Abs, x=second), b=first)
    check_graph(d.graph(third, first, d(unary.Sqrt, x=d(unary.Abs, x=third))), *ENVS)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_an_output_and_a_reshape_of_it(order: tuple[int, int]) -> None:
    d = Draft()
    x = d.input("x", "f32", "n", 6)
    y = d(unary.Exp, x=x)
    pair = (y, d(shape.Reshape, x=d(shape.Reshape, x=y, shape=(n * 3, 2)), shape=(2, n * 3)))
    check_graph(d.graph(*(pair[i] for i in order)), *ENVS)


def test_chains_run_in_place_and_operands_that_live_on_are_kept() -> None:
    d = Draft()
    x = d.input("x", "f32", "n", 6)
    kept = d(unary.Exp, x=x)
    value = kept
    for cls in (unary.Neg, unary.Abs, unary.Sqrt, unary.Tanh):
        value = d(cls, x=value)
    other = d(binary.Mul, a=value, b=kept)
    twice = d(binary.Add, a=other, b=other)
    low = check_graph(d.graph(d(unary.Neg, x=d(binary.Sub, a=twice, b=kept))), *ENVS)
    rows = {row.name: row for row in low.memory}
    assert len(rows) <= len(low.memory) <= 3, "a chain of elementwise operations shares a buffer"


def test_no_sharing_where_the_operand_is_read_through_other_strides() -> None:
    d = Draft()
    x = d.input("x", "f32", 8, 8)
    y = d(unary.Exp, x=x)
    z = d(binary.Add, a=y, b=d(shape.Transpose, x=y, perm=(1, 0)))
    back = d(shape.Slice, x=z, starts=(7, 0), steps=(-1, 1), shape=(8, 8))
    u = d(unary.Neg, x=back)
    shifted = d(shape.Concat, parts=(
        d(shape.Slice, x=u, starts=(1, 0), steps=(1, 1), shape=(7, 8)),
        d(shape.Slice, x=u, starts=(0, 0), steps=(1, 1), shape=(1, 8))), axis=0)  # fmt: skip
    check_graph(d.graph(d(unary.Neg, x=shifted)), special=False)


def test_products_that_add_to_what_they_replace() -> None:
    d = Draft()
    x, w = d.input("x", "f32", "n", 16), d.constant(weights(16, 16, scale=0.2))
    value = x
    for _ in range(4):
        value = d(unary.Tanh, x=value)
        kind = value.type
        body = d.region((kind, kind), lambda acc, skip: d(binary.Add, a=acc, b=skip))
        skip = d(unary.Neg, x=value)
        value = d(Contract, a=value, b=w, extras=(skip,), spec="mk,kn->mn", body=body)
        value = d(Contract, a=value, b=w, extras=(value,), spec="mk,kn->mn", body=body)
    low = check_graph(d.graph(d(unary.Neg, x=value)), *ENVS, special=False, scale=10)
    assert any(launch.inplace for launch in low.launches)


def test_strided_inputs_of_operations_that_need_dense_ones() -> None:
    d = Draft()
    x = d.input("x", "f32", "n", 6)
    turned = d(shape.Transpose, x=x, perm=(1, 0))
    sums = d(reduce.Cumulate, x=turned, kind="sum", axis=1)
    again = d(reduce.Cumulate, x=turned, kind="sum", axis=1, reverse=True)
    wide = d(shape.Broadcast, x=d(shape.Reshape, x=x, shape=(n, 1, 6)), shape=(n, 2, 6))
    flat = d(shape.Reshape, x=wide, shape=(2 * n, 6))
    low = check_graph(d.graph(sums, again, flat, turned), *ENVS, special=False)
    copies = [label for label in labels(low) if label == "copy"]
    assert len(copies) == 3, "the transpose is copied once for both sums, and into the output"


def selected(d: Draft):
    """x [n, 6], and the rows of it whose first element is positive."""
    x = d.input("x", "f32", "n", 6)
    first = d(shape.Slice, x=x, starts=(0, 0), steps=(1, 1), shape=(n, 1))
    zero = d.constant(np.float32(0))
    where = d(NonZero, x=d(binary.Gt, a=d(shape.Reshape, x=first, shape=(n,)), b=zero),
              count=d.data_symbol("count", n))  # fmt: skip
    rows = d(shape.Reshape, x=where, shape=(count,))
    return x, rows, d(shape.Gather, x=x, indices=rows, axis=0)


@pytest.mark.parametrize("special", [False, True])
def test_sizes_that_data_decide(special: bool) -> None:
    d = Draft()
    _, rows, picked = selected(d)
    y = d(Contract, a=picked, b=d.constant(weights(6, 5)), spec="mk,kn->mn")
    scores = d(Contract, a=picked, b=picked, spec="mk,nk->mn")
    total = d(reduce.Reduce, x=y, kind="sum", axes=(0,))
    size = d(leaf.DimValue, size=count)
    both = d(shape.Concat, parts=(picked, d(unary.Neg, x=picked)), axis=0)
    outputs = (rows, y, scores, total, size, both, picked)
    check_graph(d.graph(*outputs), *ENVS, special=special, seed=3)


def test_sizes_that_shrink_as_data_grow() -> None:
    """n - count rows: memory for them must be measured at the least count, not the most."""
    d = Draft()
    x, _, picked = selected(d)
    rest = d(shape.Slice, x=x, starts=(count, 0), steps=(1, 1), shape=(n - count, 6))
    left = d(unary.Exp, x=d(unary.Tanh, x=rest))
    y = d(Contract, a=left, b=d.constant(weights(6, 5)), spec="mk,kn->mn")
    total = d(shape.Concat, parts=(left, picked), axis=0)
    same = d(binary.Add, a=total, b=x)
    outputs = (left, y, same, d(unary.Neg, x=y))
    check_graph(d.graph(*outputs), {"n": 8}, {"n": 1}, {"n": 0}, special=False, seed=4)
    none = -np.abs(weights(9, 6))
    check_graph(d.graph(*outputs), feeds=[none])
    check_graph(d.graph(*outputs), feeds=[-none])


def test_two_data_sizes_of_which_one_depends_on_the_other() -> None:
    d = Draft()
    _, _, picked = selected(d)
    second = d(shape.Slice, x=picked, starts=(0, 1), steps=(1, 1), shape=(count, 1))
    keep = d(binary.Gt, a=d(shape.Reshape, x=second, shape=(count,)),
             b=d.constant(np.float32(0)))  # fmt: skip
    few = d.data_symbol("few", count)
    fewer = d(Compress, x=picked, condition=keep, axis=0, count=few)
    check_graph(d.graph(fewer, d(unary.Exp, x=fewer), picked), {"n": 20}, {"n": 1}, special=False)


def test_guards_pass_their_value_on_or_stop_the_run(tmp_path) -> None:
    d = Draft()
    x = d.input("x", "f32", "n", 6)
    fine = d(binary.Gt, a=x, b=d.constant(np.float32(-3)))
    y = d(unary.Neg, x=d(Guard, x=x, condition=fine, message="x is too small"))
    graph = d.graph(y, x)
    good = np.ones((4, 6), np.float32)
    check_graph(graph, feeds=[good])
    build(graph, tmp_path / "a.tw")
    bad = good.copy()
    bad[3, 5] = -4
    from tilewright.runtime.errors import ExecutionError

    with pytest.raises(ExecutionError, match="x is too small"):
        run_artifact(tmp_path / "a.tw", graph, [bad])
    np.testing.assert_array_equal(run_artifact(tmp_path / "a.tw", graph, [good])[0], -good)


def test_branches_of_data_sized_values() -> None:
    d = Draft()
    _, _, picked = selected(d)
    c = d.input("c", "bool")
    y = d(
        If,
        condition=c,
        then_body=d.region((), lambda: d(unary.Exp, x=picked)),
        else_body=d.region((), lambda: picked),
    )
    graph = d.graph(d(unary.Neg, x=y), y)
    for choice in (True, False):
        check_graph(graph, feeds=[weights(7, 6), np.array(choice)])


@pytest.mark.parametrize("threads", [2, 4])
def test_threads_do_not_change_a_bit(threads: int, tmp_path) -> None:
    d = Draft((0, 512))
    x = d.input("x", "f32", "n", 64)
    w = d.constant(weights(64, 96))
    y = d(unary.Gelu, x=d(Contract, a=x, b=w, spec="mk,kn->mn"))
    s = d(Contract, a=y, b=y, spec="mk,nk->mn")
    t = d(reduce.Reduce, x=s, kind="sum", axes=(1,))
    graph = d.graph(y, s, t)
    build(graph, tmp_path / "a.tw")
    given = [weights(300, 64, seed=5)]
    want = reference.run(graph, given)
    one = run_artifact(tmp_path / "a.tw", graph, given, [w.shape for w in want])
    for _ in range(5):
        many = run_artifact(tmp_path / "a.tw", graph, given, None, threads)
        for a, b in zip(one, many, strict=True):
            assert a.tobytes() == b.tobytes()


def test_symbols_from_input_values_and_empty_tensors() -> None:
    d = Draft()
    x = d.input("x", "f32", "n", 0)
    y = d.input("y", "f32", 3, "n")
    joined = d(shape.Concat, parts=(x, d(shape.Transpose, x=y, perm=(1, 0))), axis=1)
    none = d(reduce.Reduce, x=x, kind="sum", axes=(1,))
    filled = d(leaf.Fill, value=2.5, type=tensor("f32", "n", 3))
    check_graph(d.graph(joined, none, d(binary.Add, a=filled, b=joined), x), *ENVS)

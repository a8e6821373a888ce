"""Branches and loops: carried, scanned and stacked values, nesting, zero iterations."""

import numpy as np
import pytest
from support.compiled_graph import check_graph
from support.draft_graph import Draft, tensor, weights

from tilewright.compiler.ir.dims import sym
from tilewright.compiler.ir.ops import binary, leaf, reduce, shape, unary
from tilewright.compiler.ir.ops.contraction import Contract
from tilewright.compiler.ir.ops.control import If, Loop

n = sym("n")
BOOL, I64 = tensor("bool"), tensor("i64")
ENVS = ({"n": 4}, {"n": 1}, {"n": 0}, {"n": 9})


def true(d: Draft):
    return d.constant(np.array(True))


def test_branches_with_temporaries_captures_and_several_results() -> None:
    d = Draft()
    c, x = d.input("c", "bool"), d.input("x", "f32", "n", 8)
    y = d(unary.Neg, x=x)
    w = d.constant(weights(8, 8))

    def then():
        a = d(Contract, a=y, b=w, spec="mk,kn->mn")
        b = d(unary.Relu, x=d(Contract, a=a, b=w, spec="mk,kn->mn"))
        return d(binary.Add, a=a, b=b), d(shape.Transpose, x=b, perm=(1, 0)), x

    def other():
        return x, d(shape.Transpose, x=y, perm=(1, 0)), d(unary.Abs, x=y)

    p, q, r = d(If, condition=c, then_body=d.region((), then), else_body=d.region((), other))
    z = d(binary.Add, a=d(binary.Mul, a=p, b=r), b=y)
    graph = d.graph(z, q, p)
    for choice in (True, False):
        given = [np.array(choice), weights(5, 8, seed=3)]
        check_graph(graph, feeds=given)


def test_nested_branches_that_share_results_in_place() -> None:
    d = Draft()
    a, b, x = d.input("a", "bool"), d.input("b", "bool"), d.input("x", "f32", "n")

    def inner_then():
        return d(unary.Exp, x=d(unary.Neg, x=x))

    def inner_else():
        return d(unary.Abs, x=d(unary.Relu, x=d(unary.Neg, x=x)))

    def outer_then():
        found = d(If, condition=b, then_body=d.region((), inner_then),
                  else_body=d.region((), inner_else))  # fmt: skip
        return d(binary.Add, a=found, b=x)

    y = d(If, condition=a, then_body=d.region((), outer_then), else_body=d.region((), inner_then))
    graph = d.graph(d(unary.Neg, x=y))
    for bits in range(4):
        given = [np.array(bool(bits & 1)), np.array(bool(bits & 2)), weights(6)]
        check_graph(graph, feeds=given)


def test_carried_values_that_change_places() -> None:
    """(a, b, c) become (b, c, a + b): all are read before any is written."""
    d = Draft()
    a, b, c = (d.input(name, "f32", "n", 3) for name in "abc")
    region = d.region(
        (I64, a.type, b.type, c.type),
        lambda i, a, b, c: (true(d), b, c, d(binary.Add, a=a, b=b)),
    )
    out = d(Loop, carried=(a, b, c), trips=5, body=region)
    check_graph(d.graph(*out), *ENVS)


def test_carried_values_that_are_views_of_themselves() -> None:
    d = Draft()
    a, b = d.input("a", "f32", 4, 4), d.input("b", "f32", 4, 4)

    def body(i, a, b):
        back = d(shape.Slice, x=b, starts=(3, 0), steps=(-1, 1), shape=(4, 4))
        return true(d), d(shape.Transpose, x=a, perm=(1, 0)), back

    out = d(Loop, carried=(a, b), trips=3, body=d.region((I64, a.type, b.type), body))
    check_graph(d.graph(*out), special=False)


@pytest.mark.parametrize(("axis", "back"), [(0, True), (1, False), (2, True), (2, False)])
def test_scanned_and_stacked_axes(axis: int, back: bool) -> None:
    """Temporaries of an iteration must not fall on pieces of the iterations before it."""
    d = Draft()
    sizes = ["p", "q", 3]
    sizes[axis] = "n"
    x = d.input("x", "f32", *sizes)
    rest = [s for s in sizes if s != "n"]
    kind = tensor("f32", *rest)

    def body(i, total, piece):
        one = d(unary.Neg, x=piece)
        two = d(binary.Mul, a=d(unary.Exp, x=one), b=d(unary.Abs, x=one))
        total = d(binary.Add, a=total, b=two)
        return true(d), total, d(binary.Sub, a=two, b=one), d(unary.Tanh, x=total)

    start = d(leaf.Fill, value=0.5, type=kind)
    out = d(
        Loop,
        carried=(start,),
        scanned=(x,),
        trips=n,
        length=n,
        scan_axes=(axis,),
        scan_reverse=(back,),
        stack_axes=(axis, 2 - axis),
        stack_reverse=(not back, back),
        body=d.region((I64, kind, kind), body),
    )
    envs = [e | {"p": 2, "q": 3} for e in ENVS]
    check_graph(d.graph(*out), *[{k: v for k, v in e.items() if k in d.symbols} for e in envs],
                special=False)  # fmt: skip


def test_the_iteration_number_as_a_value_a_piece_and_inside_a_branch() -> None:
    d = Draft()
    x = d.input("x", "i64", "n")

    def body(i, total):
        odd = d(unary.Cast, x=d(binary.BitAnd, a=i, b=d.constant(np.int64(1))), dtype=BOOL.dtype)
        step = d(
            If,
            condition=odd,
            then_body=d.region((), lambda: d(binary.Add, a=total, b=i)),
            else_body=d.region((), lambda: total),
        )
        return true(d), step, i

    out = d(Loop, carried=(x,), trips=6, length=6, stack_axes=(0,), stack_reverse=(False,),
            body=d.region((I64, x.type), body))  # fmt: skip
    check_graph(d.graph(*out), *ENVS)


def test_the_iteration_number_used_only_in_nested_regions() -> None:
    d = Draft()
    c, x = d.input("c", "bool"), d.input("x", "i64", "n")

    def body(i, total):
        step = d(
            If,
            condition=c,
            then_body=d.region((), lambda: d(binary.Add, a=total, b=i)),
            else_body=d.region((), lambda: d(binary.Sub, a=total, b=i)),
        )
        return true(d), step

    out = d(Loop, carried=(x,), trips=5, body=d.region((I64, x.type), body))
    for choice in (True, False):
        check_graph(d.graph(out), feeds=[np.array(choice), np.arange(4)])


@pytest.mark.parametrize(
    ("trips", "first", "back"),
    [(10, None, False), (None, True, True), (10, False, True), (None, None, False)],
)
def test_loops_that_the_condition_ends(trips, first: bool | None, back: bool) -> None:
    """The number of iterations is a size of the result."""
    d = Draft()
    x, limit = d.input("x", "f32", "n"), d.input("limit", "f32")
    count = d.data_symbol("count", 10, high=10)
    start = None if first is None else d.input("go", "bool")

    def body(i, x):
        double = d(binary.Add, a=x, b=x)
        total = d(reduce.Reduce, x=double, kind="sum", axes=(0,), keepdims=False)
        return d(binary.Lt, a=total, b=limit), double, d(unary.Neg, x=double)

    final, stack = d(Loop, condition=start, carried=(x,), trips=trips, length=count,
                     stack_axes=(1,), stack_reverse=(back,),
                     body=d.region((I64, x.type), body))  # fmt: skip
    ones = d(leaf.Fill, value=1.0, type=tensor("f32", "n", "count"))
    total = d(reduce.Reduce, x=d(binary.Add, a=stack, b=ones), kind="sum", axes=(1,))
    graph = d.graph(stack, final, total)
    for bound in (0.0, 20.0, 130.0):
        given = [np.arange(1, 4, dtype=np.float32), np.float32(bound)]
        check_graph(graph, feeds=given if first is None else [*given, np.array(first)])


def test_loops_in_loops_and_values_of_outer_scopes() -> None:
    d = Draft()
    x, w = d.input("x", "f32", "n", 4), d.input("w", "f32", 4, 4)
    scale = d(unary.Tanh, x=w)

    def inner(i, row, column):
        moved = d(binary.Add, a=row, b=d(unary.Sin, x=column))
        return true(d), moved, d(unary.Neg, x=moved)

    def outer(i, state):
        mixed = d(Contract, a=state, b=scale, spec="mk,kn->mn")
        start = d(reduce.Reduce, x=mixed, kind="sum", axes=(1,), keepdims=False)
        row, stack = d(Loop, carried=(start,), scanned=(mixed,), trips=4, length=4,
                       scan_axes=(1,), scan_reverse=(True,), stack_axes=(1,),
                       stack_reverse=(False,),
                       body=d.region((I64, start.type, start.type), inner))  # fmt: skip
        wide = d(shape.Reshape, x=row, shape=(n, 1))
        return true(d), d(unary.Tanh, x=d(binary.Add, a=stack, b=wide)), stack

    out = d(Loop, carried=(x,), trips=3, length=3, stack_axes=(1,), stack_reverse=(False,),
            body=d.region((I64, x.type), outer))  # fmt: skip
    check_graph(d.graph(*out, scale), *ENVS, special=False, scale=4)


def test_zero_trips_give_the_start_and_empty_stacks() -> None:
    d = Draft()
    x = d.input("x", "f32", "n", 2)
    out = d(Loop, carried=(x,), trips=0, length=0, stack_axes=(1,), stack_reverse=(False,),
            body=d.region((I64, x.type), lambda i, x: (true(d), d(unary.Neg, x=x), x)))  # fmt: skip
    check_graph(d.graph(*out), *ENVS)


def test_loops_whose_starts_are_constants_inputs_and_each_other() -> None:
    d = Draft()
    x, k = d.input("x", "f32", 3), d.constant(weights(3))
    region = d.region(
        (I64, x.type, x.type, x.type, x.type),
        lambda i, a, b, c, e: (true(d), k, a, x, d(binary.Add, a=b, b=e)),
    )
    out = d(Loop, carried=(x, x, k, k), trips=4, body=region)
    check_graph(d.graph(*out, out[0], x, k), special=False)

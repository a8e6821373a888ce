"""Fused regions: one kernel where the body fits, one for every operation where it does not."""

import numpy as np
from support.compiled_graph import check_graph, labels
from support.draft_graph import Draft, tensor, weights

from tilewright.compiler.ir.dims import sym
from tilewright.compiler.ir.ops import binary, leaf, nn, reduce, shape, unary
from tilewright.compiler.ir.ops.contraction import Contract
from tilewright.compiler.ir.ops.control import Fused

n = sym("n")
ENVS = ({"n": 5}, {"n": 1}, {"n": 0}, {"n": 37})


def fused(inputs: dict[str, tuple], body, **options):
    """A graph of one fused operation over f32 inputs; its launches."""
    d = Draft()
    values = tuple(d.input(name, "f32", *s) for name, s in inputs.items())
    region = d.region([v.type for v in values], lambda *p: body(d, *p))
    made = d(Fused, inputs=values, body=region)
    outputs = made if isinstance(made, tuple) else (made,)
    return labels(check_graph(d.graph(*outputs), *ENVS, **options))


def test_a_norm_with_what_is_around_it_is_one_kernel() -> None:
    def body(d, x, y, scale):
        total = d(binary.Add, a=x, b=y)
        normed = d(nn.LayerNorm, x=total, scale=scale, axis=1, eps=1e-5)
        return total, d(unary.Silu, x=normed)

    made = fused({"x": ("n", 24), "y": ("n", 24), "s": (24,)}, body, special=False, scale=4)
    assert made == ["fused"]


def test_movements_fold_into_the_loads() -> None:
    def body(d, x, y):
        turned = d(shape.Transpose, x=y, perm=(1, 0))
        part = d(shape.Slice, x=turned, starts=(0, 23), steps=(1, -2), shape=(n, 12))
        wide = d(shape.Concat, parts=(part, d(unary.Neg, x=part)), axis=1)
        return d(binary.Mul, a=x, b=wide)

    assert fused({"x": ("n", 24), "y": (24, "n")}, body) == ["fused"]


def test_reductions_over_different_axes_become_several_kernels() -> None:
    def body(d, x):
        rows = d(reduce.Reduce, x=x, kind="max", axes=(1,))
        columns = d(reduce.Reduce, x=x, kind="min", axes=(0,))
        return d(binary.Sub, a=d(binary.Add, a=x, b=rows), b=columns), rows

    made = fused({"x": ("n", 24)}, body)
    assert len(made) > 1
    assert "fused" not in made


def test_an_operation_that_regions_have_not_becomes_a_kernel_of_its_own() -> None:
    def body(d, x):
        run = d(reduce.Cumulate, x=d(unary.Relu, x=x), kind="sum", axis=1)
        return d(unary.Neg, x=run), x, run, run

    made = fused({"x": ("n", 24)}, body, special=False)
    assert "cumulate" in made


def test_a_reshape_that_mixes_axes_is_not_one_kernel_with_what_makes_its_operand() -> None:
    def body(d, x):
        return d(shape.Reshape, x=d(unary.Exp, x=x), shape=(n * 4, 6))

    made = fused({"x": ("n", 24)}, body)
    assert made[0] == "exp"


def test_results_of_two_shapes_are_not_one_kernel() -> None:
    def body(d, x, y):
        return d(unary.Neg, x=x), d(unary.Abs, x=y)

    assert sorted(fused({"x": ("n", 24), "y": (24,)}, body)) == ["abs", "neg"]


def test_body_results_that_are_parameters_or_repeat() -> None:
    def body(d, x, y):
        total = d(binary.Add, a=x, b=y)
        return total, total, x, y

    fused({"x": ("n", 24), "y": ("n", 1)}, body)


def test_unfused_bodies_in_the_middle_of_a_graph() -> None:
    """Fused with a reason to be split, its results used later and given out too."""
    d = Draft()
    x = d.input("x", "f32", "n", 8)
    region = d.region(
        (x.type,),
        lambda p: (
            d(reduce.Reduce, x=p, kind="sum", axes=(0,)),
            d(reduce.Reduce, x=p, kind="max", axes=(1,)),
        ),
    )
    columns, rows = d(Fused, inputs=(d(unary.Neg, x=x),), body=region)
    y = d(binary.Add, a=columns, b=rows)
    z = d(Contract, a=y, b=d.constant(weights(8, 8)), spec="mk,kn->mn")
    check_graph(d.graph(rows, y, z, columns), *ENVS, special=False, scale=10)


def test_special_numbers_through_rows() -> None:
    def body(d, x):
        return d(nn.Softmax, x=x, axis=1)

    fused({"x": ("n", 24)}, body, special=True)


def test_symbolic_positions_of_pieces() -> None:
    d = Draft()
    x, y = d.input("x", "f32", "n", 3), d.input("y", "f32", "m", 3)
    both = d(shape.Concat, parts=(x, y, x), axis=0)
    tail = d(shape.Slice, x=both, starts=(n, 0), steps=(1, 1), shape=(sym("m") + n, 3))
    back = d(shape.Slice, x=both, starts=(2 * n + sym("m") - 1, 2), steps=(-1, -1),
             shape=(2 * n + sym("m"), 3))  # fmt: skip
    z = d(binary.Add, a=back, b=both)
    envs = [{"n": a, "m": b} for a, b in ((2, 3), (0, 4), (4, 0), (0, 0), (1, 1))]
    check_graph(d.graph(tail, z, d(unary.Neg, x=tail)), *envs)


def test_reductions_of_nothing() -> None:
    d = Draft()
    x = d.input("x", "f32", "n", 3)
    kinds = ("sum", "mean", "prod", "max", "min")
    made = [d(reduce.Reduce, x=x, kind=k, axes=(0,)) for k in kinds]
    made += [d(reduce.Reduce, x=x, kind=k, axes=(0, 1), keepdims=False) for k in kinds]
    i = d(unary.Cast, x=x, dtype=tensor("i32").dtype)
    made += [d(reduce.Reduce, x=i, kind=k, axes=(0,)) for k in ("sum", "prod", "max", "min")]
    check_graph(d.graph(*made), {"n": 0}, {"n": 4}, special=False)


def test_dimension_values_and_counters() -> None:
    d = Draft()
    d.input("x", "f32", "n", 3)
    size = d(leaf.DimValue, size=n * 3 - 1)
    count = d(leaf.Iota, length=n, dtype=tensor("i64").dtype)
    rows = d(shape.Reshape, x=count, shape=(n, 1))
    y = d(binary.Mul, a=d(binary.Add, a=count, b=size), b=rows)
    check_graph(d.graph(y, size, count), *ENVS)


def test_a_gather_reports_an_index_that_is_out_of_range() -> None:
    d = Draft()
    x, i = d.input("x", "f32", "n", 3), d.input("i", "i64", 4)
    y = d(unary.Neg, x=d(shape.Gather, x=x, indices=i, axis=0))
    table = np.arange(15, dtype=np.float32).reshape(5, 3)
    check_graph(d.graph(y), feeds=[table, np.array([0, 4, -1, -5])])

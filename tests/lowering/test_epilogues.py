"""Which epilogues kernels take, and that they compute what the body says."""

import numpy as np
import pytest
from support.compiled_graph import check_graph, labels
from support.draft_graph import Draft, tensor, weights

from tilewright.compiler.ir.core import Op
from tilewright.compiler.ir.dims import sym
from tilewright.compiler.ir.ops import binary, shape, unary
from tilewright.compiler.ir.ops.contraction import Contract

ENVS = ({"m": 3}, {"m": 1}, {"m": 40}, {"m": 0})


def matmul(
    extra_shapes: dict[str, tuple], body, *, constant: bool, special: bool = False, scale=1.0
):
    """x @ w with extras of some shapes and `body(draft, accumulator, *extras)`."""
    d = Draft()
    x = d.input("x", "f32", "m", 24)
    w = d.constant(weights(24, 40)) if constant else d.input("w", "f32", 24, 40)
    extras = tuple(d.input(n, "f32", *s) for n, s in extra_shapes.items())
    first = tensor("f32", "m", 40)
    region = d.region((first, *(e.type for e in extras)), lambda *p: body(d, *p))
    y = d(Contract, a=x, b=w, extras=extras, spec="mk,kn->mn", body=region)
    return check_graph(d.graph(y), *ENVS, special=special, scale=scale)


SHAPES = {
    "scalar": (),
    "one": (1, 1),
    "row": (40,),
    "row2": (1, 40),
    "col": ("m", 1),
    "full": ("m", 40),
}


@pytest.mark.parametrize("constant", [True, False])
def test_extras_of_every_kind_at_once(constant: bool) -> None:
    def body(d: Draft, acc, *extras):
        for i, extra in enumerate(extras):
            acc = d((binary.Add, binary.Mul, binary.Sub)[i % 3], a=acc, b=extra)
        return d(unary.Gelu, x=acc)

    low = matmul(SHAPES, body, constant=constant)
    assert labels(low) == ["matmul" if constant else "batched_matmul"]
    kinds = [e.index for e in low.launches[0].spec.epilogue.extras]
    assert kinds == ["scalar", "scalar", "row", "row", "col", "full"]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_extra_as_the_only_result(shape: str) -> None:
    """An operand order that is not the accumulator first, and a comparison chooses."""

    def body(d: Draft, acc, extra):
        seen = d(binary.Lt, a=extra, b=acc)
        return d(binary.Where, condition=seen, a=extra, b=d(binary.Div, a=extra, b=acc))

    low = matmul({"e": SHAPES[shape]}, body, constant=True, scale=50)  # sums near 0 divide
    assert labels(low) == ["matmul"]


def test_nan_and_infinities_pass_through_min_max_and_relu() -> None:
    def body(d: Draft, acc, extra):
        acc = d(binary.Max, a=acc, b=extra)
        return d(binary.Min, a=d(unary.Relu, x=acc), b=extra)

    matmul({"e": ("m", 40)}, body, constant=True, special=True)


@pytest.mark.parametrize("cls", [unary.Exp, unary.Erf, unary.GeluTanh, unary.Reciprocal])
def test_functions_after_the_sum(cls: type[Op]) -> None:
    low = matmul({}, lambda d, acc: d(cls, x=acc), constant=True, special=True, scale=50)
    assert labels(low) == ["matmul"]


def test_a_boolean_extra_and_a_scalar_constant() -> None:
    d = Draft()
    x, keep = d.input("x", "f32", "m", 8), d.input("keep", "bool", "m", 40)
    w = d.constant(weights(8, 40))

    def body(acc, mask):
        return d(binary.Where, condition=mask, a=acc, b=d.constant(np.float32(-7.5)))

    region = d.region((tensor("f32", "m", 40), keep.type), body)
    y = d(Contract, a=x, b=w, extras=(keep,), spec="mk,kn->mn", body=region)
    assert labels(check_graph(d.graph(y), *ENVS)) == ["matmul"]


@pytest.mark.parametrize("constant", [True, False])
def test_extras_that_are_transposed_sliced_or_broadcast_views(constant: bool) -> None:
    d = Draft()
    x, t = d.input("x", "f32", "m", 24), d.input("t", "f32", 40, "m")
    s, r = d.input("s", "f32", "m", 80), d.input("r", "f32", 80)
    w = d.constant(weights(24, 40)) if constant else d.input("w", "f32", 24, 40)
    extras = (
        d(shape.Transpose, x=t, perm=(1, 0)),
        d(shape.Slice, x=s, starts=(0, 40), steps=(1, 1), shape=(sym("m"), 40)),
        d(shape.Slice, x=r, starts=(78,), steps=(-2,), shape=(40,)),
    )

    def body(acc, *rest):
        for extra in rest:
            acc = d(binary.Add, a=acc, b=extra)
        return acc

    region = d.region((tensor("f32", "m", 40), *(e.type for e in extras)), body)
    y = d(Contract, a=x, b=w, extras=extras, spec="mk,kn->mn", body=region)
    check_graph(d.graph(y), *ENVS, special=False)


@pytest.mark.parametrize("constant", [True, False])
@pytest.mark.parametrize("spec", ["mk,kn->nm", "mk,kn->mn"])
def test_bodies_that_no_kernel_takes_run_after_it(constant: bool, spec: str) -> None:
    """The result has another type than f32: the bare product, then the body as a region."""
    d = Draft()
    x = d.input("x", "f32", "m", 24)
    w = d.constant(weights(24, 40)) if constant else d.input("w", "f32", 24, 40)
    sizes = ("m", 40) if spec.endswith("mn") else (40, "m")
    region = d.region(
        (tensor("f32", *sizes),),
        lambda acc: d(unary.Cast, x=d(unary.Cos, x=acc), dtype=tensor("f64").dtype),
    )
    y = d(Contract, a=x, b=w, spec=spec, body=region)
    low = check_graph(d.graph(y), *ENVS, special=False, scale=1e4)
    assert labels(low) == ["matmul" if constant else "batched_matmul", "fused"]


def test_transposed_results_with_row_column_and_full_extras() -> None:
    d = Draft()
    x = d.input("x", "f32", "m", 24)
    w = d.constant(weights(24, 40))
    extras = (
        d.input("per_n", "f32", 40, 1),
        d.input("per_m", "f32", "m"),
        d.input("all", "f32", 40, "m"),
    )

    def body(acc, *rest):
        for extra in rest:
            acc = d(binary.Add, a=acc, b=extra)
        return acc

    region = d.region((tensor("f32", 40, "m"), *(e.type for e in extras)), body)
    y = d(Contract, a=x, b=w, extras=extras, spec="mk,kn->nm", body=region)
    check_graph(d.graph(y), *ENVS, special=False)

"""Convolutions: the channels-last kernel for constant weights, the loop nest otherwise."""

import pytest
from support.compiled_graph import check_graph, labels
from support.draft_graph import Draft, tensor, weights

from tilewright.compiler.ir.ops import binary, unary
from tilewright.compiler.ir.ops.contraction import Conv

CASES = {
    "1d": ((9,), (3,), 4, 5, 1, {}),
    "2d": ((6, 7), (3, 3), 3, 33, 1, {}),
    "3d": ((4, 5, 3), (2, 3, 1), 2, 4, 1, {}),
    "pointwise": ((5, 5), (1, 1), 8, 16, 1, {}),
    "groups": ((5, 5), (3, 3), 6, 9, 3, {}),
    "depthwise": ((5, 6), (3, 3), 8, 8, 8, {}),
    "depthwise twice the channels": ((5, 6), (3, 3), 4, 8, 4, {}),
    "strides and dilations": ((9, 11), (3, 2), 3, 4, 1, {"strides": (2, 3), "dilations": (2, 1)}),
    "pads of one side": ((5, 4), (3, 3), 3, 4, 1, {"pads_low": (2, 0), "pads_high": (0, 1)}),
    "window as large as the image": ((3, 3), (3, 3), 3, 4, 1, {"pads_low": (0, 0)}),
}


def conv(case: str, *, constant: bool, epilogue: bool = False):
    image, taps, channels, out, groups, given = CASES[case]
    d = Draft((0, 8))
    x = d.input("x", "f32", "n", *image, channels)
    size = (*taps, channels // groups, out)
    w = d.constant(weights(*size)) if constant else d.input("w", "f32", *size)
    ones = (1,) * len(image)
    fields = {
        "strides": ones,
        "dilations": ones,
        "pads_low": ones,
        "pads_high": given.get("pads_low", ones),
        **given,
    }
    bare = Conv(x=x, w=w, groups=groups, **fields)
    extras = (d.input("bias", "f32", out), d.input("skip", "f32", *bare.out.shape))
    if not epilogue:
        extras = ()
        d.inputs = [v for v in d.inputs if v.name in ("x", "w")]
        y = d(Conv, x=x, w=w, groups=groups, **fields)
    else:

        def body(acc, bias, skip):
            total = d(binary.Add, a=d(binary.Add, a=acc, b=bias), b=skip)
            return d(unary.Relu, x=total)

        region = d.region((tensor("f32", *bare.out.shape), *(e.type for e in extras)), body)
        y = d(Conv, x=x, w=w, extras=extras, groups=groups, body=region, **fields)
    return check_graph(d.graph(y), {"n": 2}, {"n": 1}, {"n": 0}, special=False)


@pytest.mark.parametrize("case", CASES)
def test_constant_weights(case: str) -> None:
    assert labels(conv(case, constant=True, epilogue=True)) == ["conv"]


@pytest.mark.parametrize("case", ["1d", "groups", "strides and dilations"])
def test_weights_that_are_computed_take_the_loop_nest(case: str) -> None:
    assert labels(conv(case, constant=False)) == ["conv"]


def test_the_loop_nest_applies_the_epilogue_after_it() -> None:
    assert labels(conv("2d", constant=False, epilogue=True))[0] == "conv"


def test_an_epilogue_that_the_kernel_cannot_apply_follows_it() -> None:
    d = Draft((0, 8))
    x, w = d.input("x", "f32", "n", 5, 5, 4), d.constant(weights(3, 3, 4, 6))
    kind = tensor("f32", "n", 3, 3, 6)
    region = d.region((kind,), lambda acc: d(unary.Cast, x=acc, dtype=tensor("i32").dtype))
    ones, none = (1, 1), (0, 0)
    y = d(Conv, x=x, w=w, strides=ones, dilations=ones, pads_low=none, pads_high=none, body=region)
    assert labels(check_graph(d.graph(y), {"n": 2}, special=False)) == ["conv", "fused"]


def test_symbolic_images() -> None:
    d = Draft((1, 40))
    x, w = d.input("x", "f32", "n", "h", "v", 3), d.constant(weights(3, 3, 3, 8))
    y = d(Conv, x=x, w=w, strides=(2, 1), dilations=(1, 1), pads_low=(1, 1), pads_high=(1, 1))
    envs = ({"n": 1, "h": 7, "v": 9}, {"n": 2, "h": 1, "v": 1}, {"n": 1, "h": 2, "v": 20})
    assert labels(check_graph(d.graph(y), *envs, special=False)) == ["conv"]


@pytest.mark.parametrize("dtype", ["f64", "f16"])
def test_other_types(dtype: str) -> None:
    d = Draft((0, 8))
    x, w = d.input("x", dtype, "n", 5, 4), d.input("w", dtype, 3, 4, 6)
    y = d(Conv, x=x, w=w, strides=(1,), dilations=(1,), pads_low=(1,), pads_high=(1,))
    assert labels(check_graph(d.graph(y), {"n": 2}, special=False)) == ["conv"]

"""Products of 8-bit integers with constant weights run on their kernel, epilogue included."""

import numpy as np
import pytest
from support.compiled_graph import check_graph, labels
from support.draft_graph import Draft, tensor

from tilewright.compiler.ir.core import Value
from tilewright.compiler.ir.ops.binary import Add, Div, Max, Min, Mul, Sub
from tilewright.compiler.ir.ops.contraction import Contract, Conv
from tilewright.compiler.ir.ops.leaf import Fill
from tilewright.compiler.ir.ops.unary import Cast, Relu, Round
from tilewright.compiler.ir.types import DType

ROWS = ({"m": 5}, {"m": 1}, {"m": 0}, {"m": 33})
NUMPY = {"u8": np.uint8, "i8": np.int8}


def whole(kind: str, *shape: int) -> np.ndarray:
    limits = np.iinfo(NUMPY[kind])
    rng = np.random.default_rng(shape)
    return rng.integers(limits.min, limits.max, shape, NUMPY[kind], endpoint=True)


def feeds(*arrays: np.ndarray) -> list[np.ndarray]:
    return list(arrays)


@pytest.mark.parametrize("left", ["u8", "i8"])
@pytest.mark.parametrize("right", ["u8", "i8"])
@pytest.mark.parametrize("spec", ["mk,kn->mn", "mk,nk->mn", "mk,kn->nm"])
def test_sums_are_exact(left: str, right: str, spec: str) -> None:
    d = Draft()
    a = d.input("a", left, "m", 70)
    shape = (70, 40) if ",kn" in spec else (40, 70)
    w = d.constant(whole(right, *shape))
    graph = d.graph(d(Contract, a=a, b=w, spec=spec))
    for m in (1, 9, 33):
        low = check_graph(graph, feeds=feeds(whole(left, m, 70)))
    assert "integer_matmul" in labels(low)
    assert "contract" not in labels(low)


def test_constants_may_be_on_the_left() -> None:
    d = Draft()
    b = d.input("b", "u8", "m", 30)
    graph = d.graph(d(Contract, a=d.constant(whole("i8", 9, 30)), b=b, spec="nk,mk->nm"))
    assert "integer_matmul" in labels(check_graph(graph, feeds=feeds(whole("u8", 6, 30))))


def test_two_unknown_operands_take_the_loop_nest() -> None:
    d = Draft()
    a, b = d.input("a", "u8", "m", 8), d.input("b", "i8", 8, 5)
    low = check_graph(d.graph(d(Contract, a=a, b=b, spec="mk,kn->mn")), *ROWS)
    assert labels(low) == ["contract"]


def test_zero_points_scales_and_residual_are_fused() -> None:
    d = Draft()
    a = d.input("a", "u8", "m", 48)
    zero, scale = d.input("zero", "i32", 40), d.input("scale", "f32")
    residual = d.input("residual", "f32", "m", 40)

    def body(acc: Value, z: Value, s: Value, r: Value) -> Value:
        real = d(Cast, x=d(Sub, a=acc, b=z), dtype=DType.F32)
        return d(Add, a=d(Relu, x=d(Mul, a=real, b=s)), b=r)

    types = [tensor("i32", "m", 40), tensor("i32", 40), tensor("f32"), tensor("f32", "m", 40)]
    fields = {"a": a, "b": d.constant(whole("i8", 48, 40)), "spec": "mk,kn->mn"}
    region = d.region(types, body)
    y = d(Contract, **fields, extras=(zero, scale, residual), body=region)
    given = feeds(
        whole("u8", 9, 48),
        np.arange(40, dtype=np.int32) * 1000,
        np.array(0.01, np.float32),
        np.random.default_rng(0).standard_normal((9, 40)).astype(np.float32),
    )
    assert labels(check_graph(d.graph(y), feeds=given)) == ["integer_matmul"]


@pytest.mark.parametrize("fill", [False, True])
@pytest.mark.parametrize(("out", "low", "high"), [("u8", 0.0, 255.0), ("i8", -128.0, 127.0)])
def test_requantization_is_fused(out: str, low: float, high: float, fill: bool) -> None:
    d = Draft()
    a = d.input("a", "i8", "m", 48)
    scale = d.input("scale", "f32", 40)

    def body(acc: Value, s: Value) -> Value:
        def literal(x: float) -> Value:
            return d(Fill, value=x, type=tensor("f32")) if fill else d.constant(np.float32(x))

        scaled = d(Mul, a=d(Cast, x=acc, dtype=DType.F32), b=s)
        real = d(Round, x=d(Div, a=scaled, b=literal(3.0)))
        least, most = (literal(x) for x in (low, high))
        limited = d(Min, a=d(Max, a=real, b=least), b=most)
        return d(Cast, x=limited, dtype=DType.U8 if out == "u8" else DType.I8)

    region = d.region([tensor("i32", "m", 40), tensor("f32", 40)], body)
    fields = {"a": a, "b": d.constant(whole("i8", 48, 40)), "spec": "mk,kn->mn"}
    y = d(Contract, **fields, extras=(scale,), body=region)
    # Powers of two: many results are halves, which go to the even neighbour.
    scales = (2.0 ** np.arange(-9, -4).repeat(8)).astype(np.float32)
    low_ = check_graph(d.graph(y), feeds=feeds(whole("i8", 17, 48), scales))
    assert labels(low_) == ["integer_matmul"]


def test_an_epilogue_of_another_kind_is_a_kernel_of_its_own() -> None:
    d = Draft()
    a = d.input("a", "u8", "m", 16)
    w = d.constant(whole("i8", 16, 8))
    region = d.region([tensor("i32", "m", 8)], lambda acc: d(Max, a=acc, b=acc))
    y = d(Contract, a=a, b=w, spec="mk,kn->mn", body=region)
    low = check_graph(d.graph(y), *ROWS)
    assert "integer_matmul" in labels(low)
    assert len(labels(low)) == 2


@pytest.mark.parametrize(
    ("channels", "outputs", "kernel", "stride", "pad", "groups", "kernels"),
    [
        (8, 20, (3, 3), 1, 1, 1, ["integer_conv"]),
        (4, 5, (1, 1), 2, 0, 1, ["integer_conv"]),
        (8, 12, (3,), 2, 2, 2, ["integer_conv"]),
        (8, 8, (3, 3), 1, 1, 8, ["integer_conv"]),
        (6, 6, (3, 3), 1, 1, 6, ["conv"]),
    ],
)
@pytest.mark.parametrize("types", [("u8", "i8"), ("i8", "u8")])
def test_convolutions(channels, outputs, kernel, stride, pad, groups, kernels, types) -> None:
    d = Draft()
    rank = len(kernel)
    x = d.input("x", types[0], "n", *(7,) * rank, channels)
    w = d.constant(whole(types[1], *kernel, channels // groups, outputs))
    attributes = {
        "strides": (stride,) * rank,
        "pads_low": (pad,) * rank,
        "pads_high": (pad,) * rank,
        "dilations": (1,) * rank,
        "groups": groups,
    }
    graph = d.graph(d(Conv, x=x, w=w, **attributes))
    low = check_graph(graph, feeds=feeds(whole(types[0], 2, *(7,) * rank, channels)))
    assert labels(low) == kernels


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize(("channels", "kernels"), [(8, ["integer_conv"]), (6, ["pad", "conv"])])
def test_pads_of_convolutions_count_as_zero_points(channels, kernels, known) -> None:
    d = Draft()
    x = d.input("x", "u8", "n", 5, 4, channels)
    fill = d.constant(np.uint8(131)) if known else d.input("z", "u8")
    w = d.constant(whole("i8", 3, 3, 1, channels))
    window = {"pads_low": (1, 2), "pads_high": (1, 0), "strides": (1, 1), "dilations": (1, 1)}
    y = d(Conv, x=x, w=w, fill=fill, groups=channels, **window)
    given = [whole("u8", 2, 5, 4, channels), *([] if known else [np.uint8(250)])]
    low = check_graph(d.graph(y), feeds=feeds(*given))
    assert labels(low) == kernels

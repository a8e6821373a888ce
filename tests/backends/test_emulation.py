"""Operations in chosen numerics, in numpy, beside what kernels of those do by definition."""

import ml_dtypes
import numpy as np
import pytest

from tilewright.backends.emulation import emulated
from tilewright.compiler.formats import named
from tilewright.compiler.ir.core import Graph, Value
from tilewright.compiler.ir.ops.contraction import Contract, Conv
from tilewright.compiler.ir.ops.leaf import Constant
from tilewright.compiler.ir.ops.nn import Attention
from tilewright.compiler.ir.ops.shape import Gather
from tilewright.compiler.ir.types import DType, TensorType
from tilewright.compiler.ir.weights import WeightStore, from_array
from tilewright.passes.quantization.sites import sites
from tilewright.passes.quantization.stored import as_stored

RNG = np.random.default_rng(0)


def rounded(x, to=ml_dtypes.bfloat16):
    return x.astype(to).astype(np.float64)


def never(*_):
    raise AssertionError("no weight format was chosen")


def case(make, *arrays, weights=()):
    """A graph of one operation from node `n`: inputs x0, x1, ... and constants w0, ... by array."""
    inputs = [Value(TensorType(_dtype(a), a.shape), f"x{i}") for i, a in enumerate(arrays)]
    held = [
        Constant(name=f"w{i}", type=TensorType(DType.F32, w.shape)) for i, w in enumerate(weights)
    ]
    op = make(*inputs, *(c.out for c in held))
    store = WeightStore({f"w{i}": from_array(w) for i, w in enumerate(weights)})
    graph = Graph("g", tuple(inputs), (*held, op), (op.out,), ("y",), weights=store)
    return graph, {f"x{i}": a for i, a in enumerate(arrays)}


def _dtype(array):
    return DType.F32 if array.dtype == np.float32 else DType.I64


def in_numerics(case, numerics, constant="", stored=never):
    graph, feeds = case
    return emulated(graph, [("n", constant, numerics)], stored)(feeds)["y"]


def floats(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


def contract(spec):
    return lambda a, b: Contract(a=a, b=b, spec=spec, source="n")


@pytest.mark.parametrize(("numerics", "to"), [("bf16", ml_dtypes.bfloat16), ("f16", np.float16)])
def test_products_read_both_operands_rounded(numerics, to) -> None:
    x, w = floats(5, 24), floats(24, 7)
    got = in_numerics(case(contract("mk,kn->mn"), x, weights=(w,)), numerics, "w0")
    np.testing.assert_allclose(got, rounded(x, to) @ rounded(w, to), rtol=1e-6, atol=1e-6)
    two = in_numerics(case(contract("mk,kn->mn"), x, w), numerics)
    np.testing.assert_array_equal(two, got)


def test_three_products_of_parts_are_nearly_exact() -> None:
    x, w = floats(64, 96), floats(96, 32)
    exact = x.astype(np.float64) @ w
    errors = {}
    for numerics in ("f32", "bf16x3", "bf16"):
        got = in_numerics(case(contract("mk,kn->mn"), x, weights=(w,)), numerics, "w0")
        errors[numerics] = np.linalg.norm(got - exact) / np.linalg.norm(exact)
    assert errors["f32"] < 1e-7 < errors["bf16x3"] < 1e-5 < 1e-3 < errors["bf16"] < 1e-2


def test_infinite_operands_stay_infinite() -> None:
    x, w = np.ones((2, 3), np.float32), np.ones((3, 4), np.float32)
    x[0, 1] = np.inf
    for numerics in ("bf16x3", "bf16", "f16"):
        got = in_numerics(case(contract("mk,kn->mn"), x, weights=(w,)), numerics, "w0")
        assert np.isposinf(got[0]).all()
        np.testing.assert_array_equal(got[1], 3)


def test_other_operations_of_the_same_node_are_exact() -> None:
    """Only what could have other numerics is known by its node."""
    x, w = floats(3, 8), floats(8, 4)
    graph, feeds = case(contract("mk,kn->mn"), x, weights=(w,))
    got = emulated(graph, [("m", "w0", "bf16")], never)(feeds)["y"]
    np.testing.assert_allclose(got, x.astype(np.float64) @ w, rtol=1e-6, atol=1e-6)


def test_convolutions() -> None:
    x, w = floats(1, 6, 6, 3), floats(3, 3, 3, 4)

    def conv(x, w):
        return Conv(
            x=x,
            w=w,
            strides=(1, 1),
            pads_low=(0, 0),
            pads_high=(0, 0),
            dilations=(1, 1),
            groups=1,
            source="n",
        )

    got = in_numerics(case(conv, x, weights=(w,)), "bf16", "w0")
    seen = np.lib.stride_tricks.sliding_window_view(rounded(x), (3, 3), (1, 2))
    want = np.einsum("nhwcij,ijco->nhwo", seen, rounded(w))
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


def test_tables() -> None:
    table, indices = floats(9, 4), np.array([3, 0, -1])
    made = case(lambda i, t: Gather(x=t, indices=i, axis=0, source="n"), indices, weights=(table,))
    np.testing.assert_array_equal(in_numerics(made, "bf16", "w0"), rounded(table)[indices])


def test_attention_rounds_what_both_products_read() -> None:
    q, k, v = floats(1, 2, 5, 8), floats(1, 2, 7, 8), floats(1, 2, 7, 8)

    def attention(q, k, v):
        return Attention(q=q, k=k, v=v, mask=None, scale=0.5, source="n")

    got = in_numerics(case(attention, q, k, v), "bf16")
    scores = 0.5 * rounded(q) @ rounded(k).swapaxes(-1, -2)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    np.testing.assert_allclose(got, rounded(weights) @ rounded(v), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("numerics", ["w8a8-sym", "w4-g32", "w8a8-h64"])
def test_weights_in_a_format(numerics) -> None:
    x, w = floats(2, 5, 64), floats(64, 16)
    made = case(contract("bmk,kn->bnm"), x, weights=(w,))
    graph, _ = made
    (site,) = sites(graph)
    encoded = named(numerics).encode(w)
    got = in_numerics(made, numerics, "w0", lambda *key: as_stored(site, encoded, key[2]))
    want = named(numerics).multiply(x.reshape(-1, 64), encoded).reshape(2, 5, 16)
    np.testing.assert_allclose(got, want.swapaxes(1, 2), rtol=1e-4, atol=1e-4)


def test_tables_in_a_format() -> None:
    table, indices = floats(40, 32), np.array([[3, 0], [-1, 39]])
    made = case(lambda i, t: Gather(x=t, indices=i, axis=0, source="n"), indices, weights=(table,))
    (site,) = sites(made[0])
    encoded = named("w8-sym").encode(np.ascontiguousarray(table.T))
    got = in_numerics(made, "w8-sym", "w0", lambda *key: as_stored(site, encoded, key[2]))
    np.testing.assert_array_equal(got, named("w8-sym").decode(encoded).T[indices])


def test_values_that_lie_in_f16_are_rounded_where_they_are_made() -> None:
    x, w = floats(5, 24), floats(24, 7)
    graph, feeds = case(contract("mk,kn->mn"), x, weights=(w,))
    made = graph.outputs[0]
    exact = x.astype(np.float64) @ w
    got = emulated(graph, [], never, [made])(feeds)["y"]
    np.testing.assert_allclose(got, rounded(exact, np.float16), rtol=2**-10)
    assert np.linalg.norm(got - exact) > 1e-5 * np.linalg.norm(exact)
    both = emulated(graph, [("n", "w0", "bf16")], never, [made])(feeds)["y"]
    alone = emulated(graph, [("n", "w0", "bf16")], never)(feeds)["y"]
    np.testing.assert_array_equal(both, rounded(alone, np.float16))

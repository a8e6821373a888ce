"""The reference interpreter: symbols, checks, regions, f64 mode, and ops against other oracles."""

from typing import Any

import numpy as np
import pytest

from tilewright.backends.reference import DataError, evaluate_op, run
from tilewright.backends.reference.interpreter import FUNCTIONS
from tilewright.compiler.errors import UserError
from tilewright.compiler.ir.core import OPS, Constraint, Graph, Op, Region, Symbol, Value
from tilewright.compiler.ir.dims import sym
from tilewright.compiler.ir.ops import binary, control, leaf, nn, reduce, shape, unary
from tilewright.compiler.ir.ops.contraction import Contract, Conv
from tilewright.compiler.ir.types import DType, TensorType
from tilewright.compiler.ir.weights import WeightStore, from_array

N = sym("n")


def value(dtype: DType, *dims: Any, name: str = "") -> Value:
    return Value(TensorType(dtype, dims), name)


Values = tuple[Value, ...]


def graph(inputs: Values, ops: tuple[Op, ...], outputs: Values, **more: Any) -> Graph:
    return Graph("g", inputs, ops, outputs, tuple(f"o{i}" for i in range(len(outputs))), **more)


def test_every_operation_has_a_function() -> None:
    assert set(OPS.values()) == set(FUNCTIONS)


def by_shape(**more: Any) -> Graph:
    x = value(DType.F32, N, 2, name="x")
    total = reduce.Reduce(x=x, kind="sum", axes=(0,), keepdims=False)
    symbols = {"n": Symbol(1, 4, ("shape", 0, 0))}
    return graph((x,), (total,), (total.out,), symbols=symbols, **more)


def test_feeds_by_name_and_in_order() -> None:
    x = np.arange(6, dtype=np.float32).reshape(3, 2)
    for feeds in ({"x": x}, [x]):
        (out,) = run(by_shape(), feeds)
        np.testing.assert_array_equal(out, [6, 9])


@pytest.mark.parametrize(
    ("feeds", "text"),
    [
        ({}, "no data for input 'x'"),
        ([], "wrong number of inputs"),
        ([np.zeros((3, 2))], "wrong type or rank"),
        ([np.zeros((3, 3), np.float32)], "wrong shape"),
        ([np.zeros((5, 2), np.float32)], "out of bounds"),
        ([np.zeros((0, 2), np.float32)], "out of bounds"),
    ],
)
def test_feeds_that_do_not_fit(feeds: Any, text: str) -> None:
    with pytest.raises(UserError, match=text):
        run(by_shape(), feeds)


def test_constraints() -> None:
    bound = by_shape(constraints=(Constraint(N * 2, 6, "n must be three"),))
    run(bound, [np.zeros((3, 2), np.float32)])
    with pytest.raises(UserError, match="n must be three"):
        run(bound, [np.zeros((2, 2), np.float32)])


def test_symbol_from_a_value_and_data_symbols() -> None:
    shape_input, x = value(DType.I64, 1, name="s"), value(DType.I32, 3, name="x")
    wide = shape.Broadcast(x=x, shape=(N, 3))
    found = control.NonZero(x=wide.out, count=sym("count"))
    size = leaf.DimValue(size=sym("count") * 2)
    symbols = {
        "n": Symbol(0, None, ("value", 0, 0)),
        "count": Symbol(0, None, ("data",), N * 3),
    }
    g = graph((shape_input, x), (wide, found, size), (found.out, size.out), symbols=symbols)
    at, double = run(g, [np.array([2]), np.array([0, 7, 8], np.int32)])
    np.testing.assert_array_equal(at, [[0, 0, 1, 1], [1, 2, 1, 2]])
    assert double == 8


def test_if_uses_values_of_the_graph() -> None:
    condition, x = value(DType.BOOL, name="c"), value(DType.F32, 2, name="x")
    double, negated = binary.Add(a=x, b=x), unary.Neg(x=x)
    op = control.If(
        condition=condition,
        then_body=Region((), (double,), (double.out,)),
        else_body=Region((), (negated,), (negated.out,)),
    )
    g = graph((condition, x), (op,), op.results)
    data = np.array([1, 2], np.float32)
    np.testing.assert_array_equal(run(g, [np.array(True), data])[0], [2, 4])
    np.testing.assert_array_equal(run(g, [np.array(False), data])[0], [-1, -2])


def loop(trips: Any) -> tuple[Graph, control.Loop]:
    """Adds the rows of `rows` to a state until it exceeds 5; stacks the states from the end."""
    start, rows = value(DType.F32, name="start"), value(DType.F32, 4, name="rows")
    i, state, row = value(DType.I64), value(DType.F32), value(DType.F32)
    limit = leaf.Fill(value=5.0, type=TensorType(DType.F32, ()))
    total = binary.Add(a=state, b=row)
    going = binary.Le(a=total.out, b=limit.out)
    body = Region((i, state, row), (limit, total, going), (going.out, total.out, total.out))
    op = control.Loop(
        carried=(start,), scanned=(rows,), trips=trips, length=sym("steps"), scan_axes=(0,),
        scan_reverse=(False,), stack_axes=(0,), stack_reverse=(True,), body=body,
    )  # fmt: skip
    symbols = {"steps": Symbol(0, None, ("data",), 4)}
    return graph((start, rows), (op,), op.results, symbols=symbols), op


def test_loop() -> None:
    rows = np.array([1, 2, 3, 4], np.float32)
    last, stack = run(loop(4)[0], [np.float32(0), rows])
    assert last == 6
    np.testing.assert_array_equal(stack, [6, 3, 1])
    last, stack = run(loop(0)[0], [np.float32(9), rows])
    assert last == 9
    assert stack.shape == (0,)


def test_observe_sees_nested_operations() -> None:
    seen: list[str] = []
    run(
        loop(2)[0],
        [np.float32(0), np.ones(4, np.float32)],
        observe=lambda op, arrays: seen.append(op.opname),
    )
    assert seen == ["fill", "add", "le"] * 2 + ["loop"]


def test_f64_mode_does_not_round() -> None:
    x = value(DType.F16, 1, name="x")
    third = unary.Reciprocal(x=x)
    wide = unary.Cast(x=third.out, dtype=DType.F32)
    g = graph((x,), (third, wide), (wide.out,))
    three = np.array([3], np.float16)
    assert run(g, [three])[0] == np.float32(np.float16(1 / 3))
    out = run(g, [three], precision="f64")[0]
    assert out.dtype == np.float64
    assert out == 1 / 3


def test_constants_come_from_the_store() -> None:
    array = np.arange(3, dtype=np.int32)
    op = leaf.Constant(name="w", type=TensorType(DType.I32, (3,)))
    g = graph((), (op,), (op.out,), weights=WeightStore({"w": from_array(array)}))
    np.testing.assert_array_equal(run(g, [])[0], array)


def test_guard_and_index_errors() -> None:
    op = control.Guard(x=value(DType.F32), condition=value(DType.BOOL, 2), message="not that")
    with pytest.raises(DataError, match="not that"):
        evaluate_op(op, [np.float32(1), np.array([True, False])], {})
    gather = shape.Gather(x=value(DType.F32, 2), indices=value(DType.I64, 1), axis=0)
    with pytest.raises(DataError, match="index 2 is out of range"):
        evaluate_op(gather, [np.zeros(2, np.float32), np.array([2])], {})


@pytest.mark.parametrize("spec", ["mk,kn->mn", "bmk,bnk->bmn", "km,nk->nm", "abk,kc->bca"])
def test_contract_is_einsum(spec: str) -> None:
    rng = np.random.default_rng(0)
    sizes = {c: i + 2 for i, c in enumerate("abcmnk")}
    dims = [tuple(sizes[c] for c in part) for part in spec.split("->")[0].split(",")]
    data = [rng.normal(size=d) for d in dims]
    op = Contract(a=value(DType.F64, *dims[0]), b=value(DType.F64, *dims[1]), spec=spec)
    (out,) = evaluate_op(op, data, {})
    np.testing.assert_allclose(out, np.einsum(spec, *data), rtol=1e-12)


def test_integers_wrap_and_never_trap() -> None:
    least = np.array([-(2**31), -(2**31), 7], np.int32)
    by = np.array([-1, 0, -2], np.int32)
    a, b = value(DType.I32, 3), value(DType.I32, 3)
    np.testing.assert_array_equal(
        evaluate_op(binary.Div(a=a, b=b), [least, by], {})[0], [-(2**31), 0, -3]
    )
    np.testing.assert_array_equal(evaluate_op(binary.Mod(a=a, b=b), [least, by], {})[0], [0, 0, -1])
    op = Contract(a=value(DType.I8, 1, 3), b=value(DType.U8, 3, 1), spec="mk,kn->mn")
    data = [np.full((1, 3), -128, np.int8), np.full((3, 1), 255, np.uint8)]
    assert evaluate_op(op, data, {})[0].item() == -128 * 255 * 3


def test_conv_by_hand() -> None:
    """Two groups, stride 2, dilation 2, one-sided padding, against the defining sum."""
    rng = np.random.default_rng(1)
    x, w = rng.normal(size=(2, 7, 4)), rng.normal(size=(3, 2, 6))
    op = Conv(
        x=value(DType.F64, 2, 7, 4), w=value(DType.F64, 3, 2, 6), strides=(2,), pads_low=(1,),
        pads_high=(0,), dilations=(2,), groups=2,
    )  # fmt: skip
    (out,) = evaluate_op(op, [x, w], {})
    want = np.zeros((2, 2, 6))
    for n, y, o, t, c in np.ndindex(2, 2, 6, 3, 2):
        at, group = y * 2 + t * 2 - 1, o // 3
        if 0 <= at < 7:
            want[n, y, o] += x[n, at, group * 2 + c] * w[t, c, o]
    np.testing.assert_allclose(out, want, rtol=1e-12)


@pytest.mark.parametrize("causal_end", [False, True])
def test_attention_by_hand(causal_end: bool) -> None:
    """Two query heads share a key-value head; one row sees nothing."""
    rng = np.random.default_rng(2)
    q, k = rng.normal(size=(1, 2, 3, 4)), rng.normal(size=(1, 5, 1, 4))
    v = rng.normal(size=(1, 1, 5, 2))
    mask = np.ones((3, 5), bool)
    mask[1] = False
    op = nn.Attention(
        q=value(DType.F64, 1, 2, 3, 4), k=value(DType.F64, 1, 5, 1, 4),
        v=value(DType.F64, 1, 1, 5, 2), mask=value(DType.BOOL, 3, 5), scale=0.5, causal=True,
        causal_end=causal_end, masked_zero=True, k_axes="bkgd", out_axes="bqhe",
    )  # fmt: skip
    (out,) = evaluate_op(op, [q, k, v, mask], {})
    for h, i in np.ndindex(2, 3):
        seen = i + 1 + (2 if causal_end else 0)
        weights = np.exp(0.5 * k[0, :seen, 0] @ q[0, h, i])
        want = (weights / weights.sum()) @ v[0, 0, :seen] if i != 1 else np.zeros(2)
        np.testing.assert_allclose(out[0, i, h], want, rtol=1e-12)


def test_softmax_of_nothing_visible_is_nan() -> None:
    data = np.array([[-np.inf, -np.inf], [0, -np.inf]], np.float32)
    op = nn.Softmax(x=value(DType.F32, 2, 2), axis=1)
    np.testing.assert_array_equal(evaluate_op(op, [data], {})[0], [[np.nan] * 2, [1, 0]])


def test_top_k_is_stable_and_nan_is_largest() -> None:
    data = np.array([1, np.nan, 3, 3, np.nan], np.float32)
    op = reduce.TopK(x=value(DType.F32, 5), k=4, axis=0)
    np.testing.assert_array_equal(evaluate_op(op, [data], {})[1], [1, 4, 2, 3])
    op = reduce.TopK(x=value(DType.F32, 5), k=4, axis=0, largest=False)
    np.testing.assert_array_equal(evaluate_op(op, [data], {})[1], [0, 2, 3, 1])


def test_casts_round_once_to_nearest_even() -> None:
    """1 + 2**-8 + 2**-40 would round down to 1 in bf16 by way of f32."""
    above = np.array([1 + 2**-8 + 2**-40, 1 + 2**-8])
    op = unary.Cast(x=value(DType.F64, 2), dtype=DType.BF16)
    out = evaluate_op(op, [above], {})[0].astype(np.float64)
    np.testing.assert_array_equal(out, [1 + 2**-7, 1])
    wide = np.array([1e9, np.inf, np.nan, -449.0])
    for saturate, want in ((True, [448, 448, np.nan, -448]), (False, [np.nan] * 3 + [-448])):
        cast = unary.Cast(x=value(DType.F64, 4), dtype=DType.F8E4M3FN, saturate=saturate)
        found = evaluate_op(cast, [wide], {})[0].astype(np.float32)
        np.testing.assert_array_equal(found, want)

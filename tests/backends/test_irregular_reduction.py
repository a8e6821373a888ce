"""Reductions, scans, argmax, top-k and pooling against the reference."""

import numpy as np
import pytest
from support.irregular_runner import check

from tilewright.compiler.ir.core import Value
from tilewright.compiler.ir.dims import sym
from tilewright.compiler.ir.ops import nn, reduce
from tilewright.compiler.ir.types import DType, TensorType

N = sym("n")
NUMBERS = (
    *(DType.F64, DType.F32, DType.F16, DType.BF16),
    *(DType.I64, DType.I32, DType.I8, DType.U8, DType.U64),
)
TOLERANCE = {DType.F64: 1e-13, DType.F32: 1e-6, DType.F16: 1e-3, DType.BF16: 8e-3}


def value(dtype: DType, *dims: object) -> Value:
    return Value(TensorType(dtype, dims))  # type: ignore[arg-type]


def samples(dtype: DType, *dims: int, special: bool = False) -> np.ndarray:
    rng = np.random.default_rng(len(dims) + sum(dims))
    if dtype == DType.BOOL:
        return rng.integers(0, 2, dims).astype(bool)
    if dtype.is_float:
        x = np.round(rng.normal(size=dims) * 3, 1)
        if special and x.size > 6:
            x.reshape(-1)[[1, 3, 5]] = [np.nan, np.inf, -np.inf]
        return x.astype(np.float32).astype(dtype.numpy)
    return rng.integers(0 if dtype.kind == "uint" else -100, 100, dims).astype(dtype.numpy)


@pytest.mark.parametrize("dtype", NUMBERS, ids=str)
@pytest.mark.parametrize("kind", ["sum", "mean", "prod", "max", "min"])
def test_reduce(kind: str, dtype: DType) -> None:
    x = value(dtype, 3, N, 4)
    for axes, keep in (((0, 1, 2), True), ((1,), False), ((0, 2), True), ((), True)):
        op = reduce.Reduce(x=x, kind=kind, axes=axes, keepdims=keep)
        for n in (0, 5):
            data = samples(dtype, 3, n, 4, special=kind in ("max", "min"))
            check(op, [data], {"n": n}, rtol=TOLERANCE.get(dtype, 0.0))


@pytest.mark.parametrize("kind", ["any", "all"])
def test_logical_reduce(kind: str) -> None:
    op = reduce.Reduce(x=value(DType.BOOL, 3, N), kind=kind, axes=(1,))
    for n in (0, 1, 4):
        check(op, [samples(DType.BOOL, 3, n)], {"n": n})


@pytest.mark.parametrize("dtype", NUMBERS, ids=str)
@pytest.mark.parametrize("kind", ["sum", "prod"])
@pytest.mark.parametrize(("exclusive", "reverse"), [(0, 0), (1, 0), (0, 1), (1, 1)])
def test_cumulate(kind: str, dtype: DType, exclusive: int, reverse: int) -> None:
    op = reduce.Cumulate(
        x=value(dtype, 2, N, 3), kind=kind, axis=1, exclusive=bool(exclusive), reverse=bool(reverse)
    )
    for n in (0, 1, 6):
        data = samples(dtype, 2, n, 3)
        check(op, [data], {"n": n}, rtol=TOLERANCE.get(dtype, 0.0))


@pytest.mark.parametrize("dtype", [*NUMBERS, DType.BOOL], ids=str)
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("kind", ["max", "min"])
def test_arg_reduce(kind: str, last: bool, dtype: DType) -> None:
    for axis in (0, 2):
        op = reduce.ArgReduce(x=value(dtype, 4, N, 5), kind=kind, axis=axis, last=last)
        check(op, [samples(dtype, 4, 3, 5, special=True)], {"n": 3})
        check(op, [samples(dtype, 4, 0, 5)], {"n": 0})


@pytest.mark.parametrize("dtype", NUMBERS, ids=str)
@pytest.mark.parametrize("largest", [False, True])
@pytest.mark.parametrize("k", [0, 1, 3, 17])
def test_top_k(k: int, largest: bool, dtype: DType) -> None:
    for axis, dims in ((1, (3, 17, 2)), (0, (17, 4))):
        op = reduce.TopK(x=value(dtype, *dims), k=k, axis=axis, largest=largest)
        check(op, [samples(dtype, *dims, special=True)])


def test_top_k_is_stable_on_long_rows_of_ties() -> None:
    data = np.random.default_rng(3).integers(0, 7, (2, 3000)).astype(np.float32)
    data[0, ::5] = np.nan
    for largest in (True, False):
        op = reduce.TopK(x=value(DType.F32, 2, N), k=sym("k"), axis=1, largest=largest)
        check(op, [data], {"n": 3000, "k": 700})


GEOMETRIES = [
    # window, strides, low, high, dilations, spatial size, output size
    ((3,), (1,), (1,), (1,), (1,), (7,), (7,)),
    ((2,), (2,), (0,), (0,), (1,), (5,), (3,)),  # ceil mode: the last window leaves x
    ((3, 2), (2, 1), (1, 0), (1, 1), (1, 1), (6, 5), (3, 5)),
    ((2, 3), (1, 2), (2, 1), (0, 1), (2, 2), (6, 9), (6, 4)),
    ((2, 2, 2), (1, 2, 1), (0, 1, 0), (0, 0, 1), (1, 1, 2), (3, 4, 5), (2, 2, 4)),
    ((3,), (1,), (4,), (0,), (1,), (3,), (5,)),  # windows that see nothing of x
]


@pytest.mark.parametrize("kind", ["max", "mean", "mean padded", "lp", "lp 3"])
@pytest.mark.parametrize("dtype", [DType.F32, DType.F64, DType.F16, DType.I8, DType.U8], ids=str)
@pytest.mark.parametrize("geometry", GEOMETRIES, ids=lambda g: "x".join(map(str, g[0])))
def test_pool(geometry: tuple[tuple[int, ...], ...], dtype: DType, kind: str) -> None:
    window, strides, low, high, dilations, sizes, out = geometry
    if kind.startswith("lp") and not dtype.is_float:
        return
    for channels in (3, 37):
        x = value(dtype, N, *sizes, channels)
        op = nn.Pool(
            x=x, kind=kind.split()[0], window=window, strides=strides, pads_low=low,
            pads_high=high, dilations=dilations, shape=out, count_pad="padded" in kind,
            p=3 if "3" in kind else 2,
        )  # fmt: skip
        data = samples(dtype, 2, *sizes, channels, special=kind == "max")
        check(op, [data], {"n": 2}, rtol=4 * TOLERANCE.get(dtype, 0), atol=2e-6)


@pytest.mark.parametrize("column_major", [False, True])
@pytest.mark.parametrize("dtype", [DType.F32, DType.I8], ids=str)
@pytest.mark.parametrize("geometry", GEOMETRIES, ids=lambda g: "x".join(map(str, g[0])))
def test_max_pool_indices(
    geometry: tuple[tuple[int, ...], ...], dtype: DType, column_major: bool
) -> None:
    window, strides, low, high, dilations, sizes, out = geometry
    op = nn.MaxPoolIndices(
        x=value(dtype, 2, *sizes, 3), window=window, strides=strides, pads_low=low,
        pads_high=high, dilations=dilations, shape=out, column_major=column_major,
    )  # fmt: skip
    check(op, [samples(dtype, 2, *sizes, 3, special=True)])

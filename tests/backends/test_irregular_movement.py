"""Slices, padding, gathers, scatters and counts against the reference, on odd and empty shapes."""

import numpy as np
import pytest
from support.irregular_runner import check

from tilewright.compiler.ir.core import Value
from tilewright.compiler.ir.dims import sym
from tilewright.compiler.ir.ops import control, shape
from tilewright.compiler.ir.types import DType, TensorType

N, M = sym("n"), sym("m")


def value(dtype: DType, *dims: object) -> Value:
    return Value(TensorType(dtype, dims))  # type: ignore[arg-type]


def numbers(dtype: DType, *dims: int) -> np.ndarray:
    count = int(np.prod(dims))
    flat = np.arange(1, count + 1) % 97
    return (flat % 2 if dtype == DType.BOOL else flat).astype(dtype.numpy).reshape(dims)


DTYPES = (DType.F32, DType.F64, DType.F16, DType.I8, DType.I64, DType.BOOL)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_transpose(dtype: DType) -> None:
    x = value(dtype, 3, N, 4)
    for n in (0, 1, 5):
        op = shape.Transpose(x=x, perm=(2, 0, 1))
        check(op, [numbers(dtype, 3, n, 4)], {"n": n})


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("steps", [(1, 1), (2, -1), (-1, 3), (-2, -2)])
def test_slice(dtype: DType, steps: tuple[int, int]) -> None:
    x = value(dtype, N, 9)
    starts = tuple((d - 1) if s < 0 else 0 for d, s in zip((N, 9), steps, strict=True))
    sizes = ((N + abs(steps[0]) - 1) // abs(steps[0]), 9 // abs(steps[1]))
    op = shape.Slice(x=x, starts=starts, steps=steps, shape=sizes)
    for n in (0, 1, 6, 7):
        check(op, [numbers(dtype, n, 9)], {"n": n})


@pytest.mark.parametrize(
    ("starts", "steps"),
    [((1, 2), (1, 2)), ((-5, 99), (1, 1)), ((6, 8), (-2, -3)), ((0, 0), (3, 9))],
)
def test_dynamic_slice(starts: tuple[int, int], steps: tuple[int, int]) -> None:
    x, index = value(DType.F32, 7, N), value(DType.I64, 2)
    op = shape.DynamicSlice(x=x, starts=index, steps=value(DType.I64, 2), shape=(3, 2))
    data = [numbers(DType.F32, 7, 9), np.array(starts), np.array(steps)]
    check(op, data, {"n": 9})


@pytest.mark.parametrize("mode", ["constant", "edge", "reflect", "wrap"])
@pytest.mark.parametrize("low", [(0, 2, 3), (2, -1, 5), (0, 0, -2), (4, 9, 0)])
def test_pad(mode: str, low: tuple[int, int, int]) -> None:
    high = (1, 0, -1)
    x = value(DType.I32, 3, N, 4)
    op = shape.Pad(x=x, low=low, high=high, mode=mode)
    for n in (1, 2, 5):
        check(op, [numbers(DType.I32, 3, n, 4)], {"n": n})


def test_pad_value_symbols_and_empty() -> None:
    x, filler = value(DType.F16, N, 3), value(DType.F16)
    op = shape.Pad(x=x, value=filler, low=(M, 1), high=(0, -2))
    for n, m in ((0, 2), (2, 0), (3, 4)):
        data = [numbers(DType.F16, n, 3), np.float16(np.nan)]
        check(op, data, {"n": n, "m": m})
    edge = shape.Pad(x=x, low=(1, 0), high=(0, 0), mode="edge")
    check(edge, [numbers(DType.F16, 0, 3)], {"n": 0})
    removed = shape.Pad(x=value(DType.I8, 4), low=(-3,), high=(-1,))
    check(removed, [numbers(DType.I8, 4)])
    over = shape.Pad(x=value(DType.I8, 4), low=(-6,), high=(5,))
    check(over, [numbers(DType.I8, 4)])


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_concat(axis: int) -> None:
    parts, data, env = [], [], {"n": 4}
    for extra in (1, 0, N, 3):
        dims = [2, 3, 5]
        dims[axis] = extra
        parts.append(value(DType.F64, *dims))
        dims[axis] = 4 if extra is N else extra
        data.append(numbers(DType.F64, *dims))
    check(shape.Concat(parts=tuple(parts), axis=axis), data, env)


@pytest.mark.parametrize("index", [DType.I64, DType.I32], ids=str)
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_gather(axis: int, index: DType) -> None:
    x, indices = value(DType.F32, 4, N, 3), value(index, 2, M)
    for n, found in ((5, [[0, -1, 2], [1, 1, -3]]), (4, [[], []])):
        data = [numbers(DType.F32, 4, n, 3), np.array(found, index.numpy).reshape(2, -1)]
        env = {"n": n, "m": data[1].shape[1]}
        check(shape.Gather(x=x, indices=indices, axis=axis), data, env)


@pytest.mark.parametrize("bad", [5, -6, 2**40])
def test_indices_out_of_range(bad: int) -> None:
    x, indices = value(DType.F32, 5, 5), value(DType.I64, 2, 2)
    data = [numbers(DType.F32, 5, 5), np.array([[0, bad], [1, 2]])]
    updates = value(DType.F32, 2, 2)
    check(shape.Gather(x=x, indices=indices, axis=0), data)
    check(shape.GatherElements(x=x, indices=indices, axis=1), data)
    check(shape.GatherNd(x=x, indices=indices), data)
    more = [*data, numbers(DType.F32, 2, 2)]
    check(shape.ScatterElements(x=x, indices=indices, updates=updates, axis=0), more)
    row = value(DType.F32, 2)
    check(shape.ScatterNd(x=x, indices=indices, updates=row), [*data, numbers(DType.F32, 2)])


@pytest.mark.parametrize("axis", [0, 1])
def test_gather_elements(axis: int) -> None:
    x, indices = value(DType.BF16, 4, N), value(DType.I64, 3, M)
    for n, m in ((6, 5), (3, 0), (1, 1)):
        found = np.random.default_rng(n).integers(-min(4, n), min(4, n), (3, m))
        op = shape.GatherElements(x=x, indices=indices, axis=axis)
        check(op, [numbers(DType.BF16, 4, n), found], {"n": n, "m": m})


def test_gather_nd() -> None:
    x = value(DType.I16, 2, N, 4, 3)
    plain = np.array([[[1, -1], [0, 0], [-2, 2]]])
    op = shape.GatherNd(x=x, indices=value(DType.I64, 1, 3, 2))
    check(op, [numbers(DType.I16, 2, 5, 4, 3), plain], {"n": 5})
    batched = np.array([[[0, 3], [1, -1]], [[4, 2], [-5, 0]]])
    op = shape.GatherNd(x=x, indices=value(DType.I64, 2, 2, 2), batch_dims=1)
    check(op, [numbers(DType.I16, 2, 5, 4, 3), batched], {"n": 5})
    whole = shape.GatherNd(x=value(DType.F32, 2), indices=value(DType.I32, 3, 0))
    check(whole, [numbers(DType.F32, 2), np.zeros((3, 0), np.int32)])


REDUCTIONS = ("none", "add", "mul", "min", "max")


@pytest.mark.parametrize("dtype", [*DTYPES, DType.BF16, DType.U8], ids=str)
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_scatter(reduction: str, dtype: DType) -> None:
    x, indices, updates = value(dtype, 5, N), value(DType.I64, 3, 4), value(dtype, 3, 4)
    found = np.array([[0, 1, 1, -1], [2, 2, 0, 1], [0, 0, 0, 0]])
    data = [numbers(dtype, 5, 6), found, numbers(dtype, 3, 4)[::-1].copy()]
    for axis in (0, 1):
        op = shape.ScatterElements(
            x=x, indices=indices, updates=updates, axis=axis, reduction=reduction
        )
        check(op, data, {"n": 6})
    op = shape.ScatterNd(
        x=x, indices=value(DType.I64, 2, 2, 1), updates=value(dtype, 2, 2, N), reduction=reduction
    )
    rows = [data[0], np.array([[[0], [4]], [[-5], [4]]]), numbers(dtype, 2, 2, 6)]
    check(op, rows, {"n": 6})
    op = shape.ScatterNd(
        x=x, indices=value(DType.I64, 3, 2), updates=value(dtype, 3), reduction=reduction
    )
    check(op, [data[0], np.array([[0, 1], [0, 1], [4, -1]]), numbers(dtype, 3)], {"n": 6})


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_non_zero(dtype: DType) -> None:
    x = value(dtype, 3, N, 2)
    for n in (0, 1, 5):
        data = numbers(dtype, 3, n, 2)
        data[:, ::2] = 0
        check(control.NonZero(x=x, count=sym("count")), [data], {"n": n})
    check(control.NonZero(x=value(dtype), count=sym("count")), [numbers(dtype, 1).reshape(())])


def test_non_zero_of_nan_and_minus_zero() -> None:
    op = control.NonZero(x=value(DType.F16, 4), count=sym("count"))
    check(op, [np.array([np.nan, -0.0, 0.0, 6e-8], np.float16)])


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("given", [0, 2, 4, 9])
def test_compress(axis: int, given: int) -> None:
    x, condition = value(DType.F32, 4, N, 3), value(DType.BOOL, M)
    choice = np.random.default_rng(given).integers(0, 2, given).astype(bool)
    op = control.Compress(x=x, condition=condition, axis=axis, count=sym("count"))
    check(op, [numbers(DType.F32, 4, 5, 3), choice], {"n": 5, "m": given})

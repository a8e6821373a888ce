"""The custom kinds against the reference, and the reference against numpy or hand-made cases."""

import numpy as np
import pytest
from support.irregular_runner import check

from tilewright.backends.reference import evaluate_op
from tilewright.compiler.ir.core import Value
from tilewright.compiler.ir.dims import sym
from tilewright.compiler.ir.ops.control import Custom
from tilewright.compiler.ir.types import DType, TensorType

N, COUNT = sym("n"), sym("count")


def value(dtype: DType, *dims: object) -> Value:
    return Value(TensorType(dtype, dims))  # type: ignore[arg-type]


def unique(dtype: DType, shape: tuple[object, ...], axis: int, ordered: bool) -> Custom:
    x = value(dtype, *shape)
    out = (*shape[:axis], COUNT, *shape[axis + 1 :])
    per_value = TensorType(DType.I64, (COUNT,))
    per_entry = TensorType(DType.I64, (x.shape[axis],))
    return Custom(
        inputs=(x,), kind="unique", params=(("axis", axis), ("sorted", ordered)),
        types=(TensorType(dtype, out), per_value, per_entry, per_value),  # type: ignore[arg-type]
    )  # fmt: skip


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("dtype", [DType.F32, DType.F16, DType.I64, DType.U8, DType.BOOL], ids=str)
def test_unique(dtype: DType, ordered: bool) -> None:
    rng = np.random.default_rng(1)
    for n in (0, 1, 40):
        data = rng.integers(0, 2 if dtype == DType.BOOL else 9, n).astype(dtype.numpy)
        if dtype.is_float and n > 9:
            data[3], data[8], data[5] = np.nan, np.nan, np.inf
        check(unique(dtype, (N,), 0, ordered), [data], {"n": n})
    for axis, shape in ((0, (12, 2, 1)), (1, (2, 12, 2)), (2, (1, 2, 12))):
        data = rng.integers(0, 2, shape).astype(dtype.numpy)
        check(unique(dtype, shape, axis, ordered), [data])


def test_reference_unique_is_numpy_unique() -> None:
    data = np.random.default_rng(2).integers(0, 3, (30, 2))
    found = evaluate_op(unique(DType.I64, (30, 2), 0, True), [data], {})
    for have, want in zip(found, np.unique(data, True, True, True, axis=0), strict=True):
        np.testing.assert_array_equal(have, want)


@pytest.mark.parametrize("dtype", [DType.F64, DType.F32, DType.F16], ids=str)
def test_det(dtype: DType) -> None:
    for n in (0, 1, 2, 6):
        data = np.random.default_rng(n).normal(size=(3, n, n)).astype(dtype.numpy)
        if n > 1:
            data[0, 0] = 0
            data[1, 0, 0] = 0
        op = Custom(inputs=(value(dtype, 3, N, N),), kind="det", types=(TensorType(dtype, (3,)),))
        check(op, [data], {"n": n}, rtol=1e-11 if dtype == DType.F64 else 1e-6, atol=1e-12)


def suppression(centred: bool) -> Custom:
    limits = (value(DType.I64), value(DType.F32), value(DType.F32))
    return Custom(
        inputs=(value(DType.F32, 2, N, 4), value(DType.F32, 2, 3, N), *limits),
        kind="non_max_suppression", params=(("center_point_box", centred),),
        types=(TensorType(DType.I64, (COUNT, 3)),),
    )  # fmt: skip


@pytest.mark.parametrize("centred", [False, True])
@pytest.mark.parametrize("most", [0, 2, 100])
def test_non_max_suppression(centred: bool, most: int) -> None:
    rng = np.random.default_rng(most)
    for n in (0, 1, 30):
        boxes = rng.uniform(0, 1, (2, n, 4)).astype(np.float32)
        scores = rng.integers(0, 12, (2, 3, n)).astype(np.float32)
        if n > 3:
            scores[0, 0, 2], boxes[0, 1, 2:] = np.nan, boxes[0, 1, :2]
        for overlap, least in ((0.5, 3.0), (0.0, -np.inf), (1.0, 1e9)):
            limits = [np.int64(most), np.float32(overlap), np.float32(least)]
            check(suppression(centred), [boxes, scores, *limits], {"n": n})


def test_reference_suppression_by_hand() -> None:
    boxes = np.zeros((2, 3, 4), np.float32)
    boxes[:, 0] = [0, 0, 1, 1]
    boxes[:, 1] = [1, 1.1, 0, 0]  # the corners exchanged; overlaps box 0 by 1 / 1.1
    boxes[:, 2] = [5, 5, 6, 6]
    scores = np.full((2, 3, 3), -1, np.float32)
    scores[1, 2] = [0.8, 0.9, 0.1]
    limits = [np.int64(9), np.float32(0.5), np.float32(0)]
    (found,) = evaluate_op(suppression(False), [boxes, scores, *limits], {"n": 3})
    np.testing.assert_array_equal(found, [[1, 2, 1], [1, 2, 2]])


def roi(dtype: DType, mode: str, half_pixel: bool, ratio: int) -> Custom:
    params = (
        *(("mode", mode), ("half_pixel", half_pixel)),
        *(("sampling_ratio", ratio), ("spatial_scale", 0.7)),
    )
    inputs = (value(dtype, 2, 3, N, 8), value(dtype, 5, 4), value(DType.I64, 5))
    types = (TensorType(dtype, (5, 3, 2, 3)),)
    return Custom(inputs=inputs, kind="roi_align", types=types, params=params)


@pytest.mark.parametrize("dtype", [DType.F64, DType.F32], ids=str)
@pytest.mark.parametrize("mode", ["avg", "max"])
@pytest.mark.parametrize("half_pixel", [True, False])
@pytest.mark.parametrize("ratio", [0, 2])
def test_roi_align(dtype: DType, mode: str, half_pixel: bool, ratio: int) -> None:
    rng = np.random.default_rng(4)
    x = rng.normal(size=(2, 3, 7, 8)).astype(dtype.numpy)
    rois = np.array(
        [[0, 0, 9, 9], [-9, 2, 40, 3], [3.3, 1.2, 3.4, 8], [50, 50, 60, 60], [5, 5, 2, 2]]
    ).astype(dtype.numpy)
    batch = np.array([0, 1, -1, 0, 1])
    op = roi(dtype, mode, half_pixel, ratio)
    check(op, [x, rois, batch], {"n": 7}, rtol=1e-5, atol=1e-6)
    check(op, [x, rois, batch + 1], {"n": 7})

"""Row and column reductions of both tiers against the numpy meaning of their specs."""

import pickle

import numpy as np
import pytest
from support.region_oracle import DTYPES, reference
from support.region_runner import BEST, ROWS, TIERS, CompiledRegion, check, randoms, rerun

from tilewright.backends import target
from tilewright.backends.llvm.region import dims
from tilewright.backends.llvm.region.kernel import flops_bytes, grain, scratch_bytes, units
from tilewright.backends.llvm.region.schedule import plan
from tilewright.backends.llvm.region.spec import (
    Const,
    DimValue,
    Load,
    Op,
    Reduce,
    RegionError,
    RegionSpec,
    Store,
)

P = dims.param
SIZES = (1, 15, 16, 17, 31, 33, 100)


@pytest.fixture(params=TIERS)
def tier(request):
    return request.param


def softmax(rows, length, params=0):
    body = (
        Load(0, (length, 1)),
        Reduce("max", 0),
        Op("sub", (0, 1), "f32"),
        Op("exp", (2,), "f32"),
        Reduce("sum", 3),
        Op("div", (3, 4), "f32"),
    )
    return RegionSpec(
        domain=(rows, length), reduced=(1,), inputs=("f32",), params=params, body=body,
        outputs=(Store(5, "f32", (length, 1)),),
    )  # fmt: skip


def layernorm(rows, length, params=0):
    body = (
        Load(0, (length, 1)),
        Load(1, (0, 1)),
        Load(2, (0, 1)),
        DimValue(length),
        Op("cast", (3,), "f32"),
        Reduce("sum", 0),
        Op("div", (5, 4), "f32"),
        Op("sub", (0, 6), "f32"),
        Op("mul", (7, 7), "f32"),
        Reduce("sum", 8),
        Op("div", (9, 4), "f32"),
        Const(1e-5, "f32"),
        Op("add", (10, 11), "f32"),
        Op("rsqrt", (12,), "f32"),
        Op("mul", (7, 13), "f32"),
        Op("mul", (14, 1), "f32"),
        Op("add", (15, 2), "f32"),
    )
    return RegionSpec(
        domain=(rows, length), reduced=(1,), inputs=("f32",) * 3, params=params, body=body,
        outputs=(Store(16, "f32", (length, 1)),),
    )  # fmt: skip


@pytest.mark.parametrize("row", ROWS)
def test_softmax_and_layernorm_of_any_row_length(tier, row):
    row = target.lookup(row)
    kernels = [(s, CompiledRegion(s, row, tier)) for s in (softmax(P(0), P(1), 2),)]
    kernels += [(s, CompiledRegion(s, row, tier)) for s in (layernorm(P(0), P(1), 2),)]
    for length in SIZES:
        x, g, b = randoms((3, length), (length,), (length,), seed=length)
        for (spec, kernel), arrays in zip(kernels, ([x * 5], [x, g, b]), strict=True):
            rerun(kernel, spec, arrays, [3 * length], (3, length), rtol=1e-4, atol=4e-6)


def test_a_static_shape_gives_the_same_bits_as_a_symbolic_one(tier):
    x, g, b = randoms((5, 100), (100,), (100,))
    fixed = check(layernorm(5, 100), [x, g, b], [500], (), tier, rtol=1e-4, atol=2e-6)
    free = check(layernorm(P(0), P(1), 2), [x, g, b], [500], (5, 100), tier, rtol=1e-4, atol=2e-6)
    assert (fixed[0] == free[0]).all()


def test_both_tiers_and_any_split_give_the_same_bits():
    x, g, b = randoms((7, 61), (61,), (61,))
    results = [
        check(layernorm(7, 61), [x, g, b], [427], (), tier, rtol=1e-4, atol=2e-6, splits=splits)[0]
        for tier in TIERS
        for splits in (1, 3, 7)
    ]
    assert all((r == results[0]).all() for r in results)


def test_softmax_of_infinities_and_nan(tier):
    x = np.float32([[0, -np.inf, 3, -np.inf], [np.inf, 1, 2, 3], [np.nan, 1, 2, 3], [1e30] * 4])
    spec = softmax(4, 4)
    status, (got,) = CompiledRegion(spec, BEST, tier)([x], [16])
    want = reference(spec, [x], (), [16])[0]
    assert status == 0
    np.testing.assert_allclose(got, want, rtol=1e-6)


REDUCTIONS = ["sum", "prod", "max", "min", "argmax", "argmin", "argmax_last", "argmin_last"]


@pytest.mark.parametrize("kind", REDUCTIONS)
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("dtype", ["f32", "i64", "i32"])
def test_reductions_over_rows_and_columns(tier, kind, axis, dtype):
    result = "i64" if kind.startswith("arg") else dtype
    keep = 1 - axis
    strides = (1, 0) if keep == 0 else (0, 1)
    spec = RegionSpec(
        domain=(P(0), P(1)), reduced=(axis,), inputs=(dtype,), params=2,
        body=(Load(0, (P(1), 1)), Reduce(kind, 0)), outputs=(Store(1, result, strides),),
    )  # fmt: skip
    kernel = CompiledRegion(spec, BEST, tier)
    for shape in ((5, 7), (3, 100), (100, 3), (2, 81), (81, 70)):
        rng = np.random.default_rng(shape[0])
        x = rng.integers(-3, 4, shape)
        x = np.where(x == 0, 1, x).clip(-1, 2) if kind == "prod" else x
        x = x.astype(DTYPES[dtype])
        rerun(kernel, spec, [x], [shape[keep]], shape, rtol=1e-5)


def test_max_and_argmax_see_nan_wherever_it_is(tier):
    x = np.zeros((40, 37), np.float32)
    for row in range(37):
        x[row, row] = np.nan
    spec = RegionSpec(
        domain=(40, 37), reduced=(1,), inputs=("f32",),
        body=(Load(0, (37, 1)), Reduce("max", 0), Reduce("argmax", 0), Reduce("min", 0)),
        outputs=(Store(1, "f32", (1, 0)), Store(2, "i64", (1, 0)), Store(3, "f32", (1, 0))),
    )  # fmt: skip
    check(spec, [x], [40, 40, 40], (), tier)


def test_reductions_of_nothing_give_the_neutral_element(tier):
    spec = RegionSpec(
        domain=(P(0), P(1)), reduced=(1,), inputs=("f32",), params=2,
        body=(Load(0, (P(1), 1)), Reduce("sum", 0), Reduce("max", 0)),
        outputs=(Store(1, "f32", (1, 0)), Store(2, "f32", (1, 0))),
    )  # fmt: skip
    empty = np.zeros((3, 0), np.float32)
    status, (total, largest) = CompiledRegion(spec, BEST, tier)([empty], [3, 3], (3, 0))
    assert status == 0
    assert (total == 0).all()
    assert (largest == -np.inf).all()


@pytest.mark.parametrize("reduced", [(0,), (1,), (2,), (0, 2), (0, 1), (1, 2), (0, 1, 2)])
def test_reductions_over_any_axes_with_an_epilogue_and_a_full_output(tier, reduced):
    shape = (3, 5, 19)
    kept = [a for a in range(3) if a not in reduced]
    row = dict(zip(kept, dims.row_major([shape[a] for a in kept]), strict=True))
    out = tuple(row.get(a, 0) for a in range(3))
    full = dims.row_major(shape)
    spec = RegionSpec(
        domain=shape, reduced=reduced, inputs=("f32",),
        body=(Load(0, full), Op("exp", (0,), "f32"), Reduce("sum", 1), Op("log", (2,), "f32"),
              Op("sub", (0, 3), "f32")),
        outputs=(Store(3, "f32", out), Store(4, "f32", full)),
    )  # fmt: skip
    (x,) = randoms(shape)
    check(spec, [x], [max(1, int(np.prod([shape[a] for a in kept]))), x.size], (), tier, rtol=1e-5)


def test_a_long_f32_sum_keeps_its_precision():
    (x,) = randoms((1, 1 << 16))
    x = np.abs(x) + 1
    spec = RegionSpec(
        domain=(1, 1 << 16), reduced=(1,), inputs=("f32",),
        body=(Load(0, (1 << 16, 1)), Reduce("sum", 0)), outputs=(Store(1, "f32", (1, 0)),),
    )  # fmt: skip
    check(spec, [x], [1], rtol=1e-6)


def test_softmax_over_an_inner_but_not_last_axis_keeps_exponentials(tier):
    shape = (2, 9, 70)
    full = dims.row_major(shape)
    spec = RegionSpec(
        domain=shape, reduced=(1,), inputs=("f32",),
        body=(Load(0, full), Reduce("max", 0), Op("sub", (0, 1), "f32"), Op("exp", (2,), "f32"),
              Reduce("sum", 3), Op("div", (3, 4), "f32")),
        outputs=(Store(5, "f32", full),),
    )  # fmt: skip
    assert plan(spec, 512).kind == "columns"
    assert dims.evaluate(scratch_bytes(spec, 512), ()) == 9 * 64 * 4
    (x,) = randoms(shape)
    check(spec, [x], [x.size], (), tier, rtol=1e-5)


def test_layernorm_with_residual_bias_and_a_second_output(tier):
    n, length = 5, 70
    body = (
        Load(0, (length, 1)),
        Load(1, (length, 1)),
        Load(2, (0, 1)),
        Op("add", (0, 1), "f32"),
        Op("add", (3, 2), "f32"),
        Reduce("sum", 4),
        Const(1.0 / length, "f32"),
        Op("mul", (5, 6), "f32"),
        Op("sub", (4, 7), "f32"),
        Op("mul", (8, 8), "f32"),
        Reduce("sum", 9),
        Op("mul", (10, 6), "f32"),
        Op("rsqrt", (11,), "f32"),
        Op("mul", (8, 12), "f32"),
        Op("gelu_erf", (13,), "f32"),
    )
    spec = RegionSpec(
        domain=(n, length), reduced=(1,), inputs=("f32",) * 3, body=body,
        outputs=(Store(14, "f32", (length, 1)), Store(4, "f32", (length, 1)),
                 Store(7, "f32", (1, 0))),
    )  # fmt: skip
    arrays = randoms((n, length), (n, length), (length,))
    check(spec, arrays, [n * length, n * length, n], (), tier, rtol=1e-4, atol=4e-6)


def test_specs_hash_pickle_and_state_their_work():
    spec = softmax(P(0), P(1), 2)
    assert pickle.loads(pickle.dumps(spec)) == spec
    assert hash(pickle.loads(pickle.dumps(spec))) == hash(spec)
    flops, moved = flops_bytes(spec)
    assert dims.evaluate(flops, (4, 10)) == 4 * 10 * 5
    assert dims.evaluate(moved, (4, 10)) == 2 * 4 * 10 * 4
    assert dims.text(units(spec, 512)) == "p0"
    assert dims.evaluate(grain(spec, 512), (4, 10)) >= 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"body": (Load(0, (1,)), Reduce("sum", 0))}, "no reduced axes"),
        ({"body": (Load(1, (1,)),)}, "reads input 1 of 1"),
        ({"body": (Load(0, (1, 1)),)}, "has 2 strides, rank is 1"),
        ({"body": (Load(0, (1,)), Op("frob", (0,), "f32"))}, "unknown operator 'frob'"),
        ({"body": (Load(0, (1,)), Op("add", (0, 1), "f32"))}, "uses node 1"),
        ({"outputs": (Store(0, "i64", (1,)),)}, "insert a cast"),
        ({"outputs": ()}, "at least one output"),
    ],
)
def test_a_broken_spec_is_refused(change, message):
    fields = {
        "domain": (8,),
        "inputs": ("f32",),
        "body": (Load(0, (1,)),),
        "outputs": (Store(0, "f32", (1,)),),
    } | change
    with pytest.raises(RegionError, match=message):
        plan(RegionSpec(**fields), 512)

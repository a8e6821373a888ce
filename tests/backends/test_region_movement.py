"""Transposes, slices, concat, padding and gathers as region kernels."""

import numpy as np
import pytest
from support.region_oracle import DTYPES
from support.region_runner import BEST, ROWS, TIERS, CompiledRegion, check, randoms, rerun

from tilewright.backends import target
from tilewright.backends.llvm.region import dims
from tilewright.backends.llvm.region.kernel import units
from tilewright.backends.llvm.region.schedule import plan
from tilewright.backends.llvm.region.spec import (
    Const,
    Gather,
    Iota,
    Load,
    Op,
    Piece,
    RegionSpec,
    Store,
)

P = dims.param
SIZES = (1, 15, 16, 17, 31, 33, 100)


@pytest.fixture(params=TIERS)
def tier(request):
    return request.param


def transposed(shape, perm, dtype="f32"):
    strides = dims.row_major(shape)
    domain = tuple(shape[p] for p in perm)
    return RegionSpec(
        domain=domain, inputs=(dtype,), body=(Load(0, tuple(strides[p] for p in perm)),),
        outputs=(Store(0, dtype, dims.row_major(domain)),),
    )  # fmt: skip


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("dtype", ["f32", "i8", "i64", "f16"])
def test_transposes_of_odd_shapes(tier, dtype, row):
    for shape, perm in (
        ((33, 17), (1, 0)), ((2, 16, 32), (0, 2, 1)), ((2, 5, 3, 19), (0, 2, 3, 1)),
        ((2, 5, 3, 19), (0, 2, 1, 3)), ((3, 4, 5), (2, 1, 0)), ((31, 1, 15), (2, 1, 0)),
    ):  # fmt: skip
        rng = np.random.default_rng(1)
        x = rng.integers(-100, 100, shape).astype(DTYPES[dtype])
        check(transposed(shape, perm, dtype), [x], [x.size], (), tier, target.lookup(row))


def test_a_transpose_is_blocked_and_a_permutation_that_keeps_the_inner_axis_is_not():
    assert plan(transposed((4, 128, 12, 32), (0, 2, 3, 1)), 512).kind == "blocked"
    assert plan(transposed((4, 128, 12, 32), (0, 2, 1, 3)), 512).kind == "pointwise"


def test_a_symbolic_transpose_with_an_epilogue(tier):
    m, n = P(0), P(1)
    spec = RegionSpec(
        domain=(n, m), inputs=("f32", "f32"), params=2,
        body=(Load(0, (1, n)), Load(1, (0, 1)), Op("add", (0, 1), "f32")),
        outputs=(Store(2, "f32", (m, 1)),),
    )  # fmt: skip
    kernel = CompiledRegion(spec, BEST, tier)
    for shape in ((16, 16), (17, 33), (1, 40), (40, 1), (15, 31)):
        x, b = randoms(shape, (shape[0],))
        rerun(kernel, spec, [x, b], [x.size], shape, splits=2)


def test_slices_with_steps_and_reversal(tier):
    (x,) = randoms((6, 50))
    for step, start, count in (
        (-1, 49, 50),
        (2, 1, 20),
        (2, 19, 16),
        (-2, 49, 25),
        (-3, 48, 16),
        (1, 7, 40),
    ):
        spec = RegionSpec(
            domain=(6, count), inputs=("f32",),
            body=(Load(0, (50, step), start), Op("neg", (0,), "f32")),
            outputs=(Store(1, "f32", (count, 1)),),
        )  # fmt: skip
        check(spec, [x], [6 * count], (), tier)


def test_a_strided_store_writes_only_its_elements(tier):
    (x,) = randoms((4, 19))
    spec = RegionSpec(
        domain=(4, 19), inputs=("f32",), body=(Load(0, (19, 1)),),
        outputs=(Store(0, "f32", (57, 3), 1),),
    )  # fmt: skip
    check(spec, [x], [4 * 57], (), tier)


@pytest.mark.parametrize("axis", [0, 1])
def test_concat_of_three_inputs(tier, axis):
    parts = [(3, 5), (3, 17), (3, 2)] if axis else [(5, 3), (17, 3), (2, 3)]
    extents = [p[axis] for p in parts]
    total = sum(extents)
    domain = (3, total) if axis else (total, 3)
    loads, start = [], 0
    for k, shape in enumerate(parts):
        loads.append(Load(k, (shape[1], 1), -start * (1 if axis else shape[1])))
        start += extents[k]
    starts = (extents[0], extents[0] + extents[1])
    spec = RegionSpec(
        domain=domain, inputs=("f32",) * 3,
        body=(*loads, Piece(axis, starts, (0, 1, 2)), Op("exp", (3,), "f32")),
        outputs=(Store(4, "f32", (domain[1], 1)),),
    )  # fmt: skip
    check(spec, randoms(*parts), [3 * total], (), tier, rtol=1e-5)


def pad(mode, n, before, after):
    """Padding of the inner axis of [p0, n] by pieces."""
    width = n + before + after
    inner = Load(0, (n, 1), -before)
    if mode == "constant":
        edges = (Const(9.0, "f32"), Const(9.0, "f32"))
    elif mode == "edge":
        edges = (Load(0, (n, 0), 0), Load(0, (n, 0), n - 1))
    elif mode == "reflect":
        edges = (Load(0, (n, -1), before), Load(0, (n, -1), 2 * (n - 1) + before))
    else:
        edges = (Load(0, (n, 1), n - before), Load(0, (n, 1), -before - n))
    return RegionSpec(
        domain=(P(0), width), inputs=("f32",), params=1,
        body=(edges[0], inner, edges[1], Piece(1, (before, before + n), (0, 1, 2))),
        outputs=(Store(3, "f32", (width, 1)),),
    )  # fmt: skip


@pytest.mark.parametrize("mode", ["constant", "edge", "reflect", "wrap"])
def test_padding_of_the_inner_axis(tier, mode):
    (x,) = randoms((4, 37))
    got = check(pad(mode, 37, 3, 5), [x], [4 * 45], (4,), tier)
    widths = ((0, 0), (3, 5))
    extra = {"constant_values": 9} if mode == "constant" else {}
    assert (got[0].reshape(4, 45) == np.pad(x, widths, mode=mode, **extra)).all()


def test_padding_of_two_axes_at_once(tier):
    (x,) = randoms((5, 21))
    spec = RegionSpec(
        domain=(8, 26), inputs=("f32",),
        body=(Load(0, (21, 1), -21 - 2), Const(0.0, "f32"), Piece(0, (1, 6), (1, 0, 1)),
              Piece(1, (2, 23), (1, 2, 1))),
        outputs=(Store(3, "f32", (26, 1)),),
    )  # fmt: skip
    got = check(spec, [x], [8 * 26], (), tier)
    assert (got[0].reshape(8, 26) == np.pad(x, ((1, 2), (2, 3)))).all()


def test_pieces_that_cannot_be_split_together_run_element_by_element(tier):
    (x,) = randoms((30,))
    spec = RegionSpec(
        domain=(30,), inputs=("f32",),
        body=(Load(0, (1,)), Const(1.0, "f32"), Piece(0, (7,), (0, 1)), Piece(0, (20,), (1, 0)),
              Op("add", (2, 3), "f32")),
        outputs=(Store(4, "f32", (1,)),),
    )  # fmt: skip
    assert plan(spec, 512).lanes == 0
    check(spec, [x], [30], (), tier)


def lookup(index_dtype="i64", error=3):
    """Rows of a [p1, p2] table picked by p0 indices."""
    return RegionSpec(
        domain=(P(0), P(2)), inputs=(index_dtype, "f32"), params=3,
        body=(Load(0, (1, 0)), Load(1, (0, 1), 0, (Gather(0, P(2), P(1), error),))),
        outputs=(Store(1, "f32", (P(2), 1)),),
    )  # fmt: skip


@pytest.mark.parametrize("index_dtype", ["i32", "i64"])
def test_embedding_lookup_wraps_negative_indices(tier, index_dtype):
    (table,) = randoms((10, 33))
    index = np.array([0, 9, -1, -10, 4], DTYPES[index_dtype])
    check(lookup(index_dtype), [index, table], [5 * 33], (5, 10, 33), tier)


@pytest.mark.parametrize("bad", [10, -11, 2**40])
def test_an_index_out_of_range_gives_the_error_of_the_spec(tier, bad):
    (table,) = randoms((10, 33))
    kernel = CompiledRegion(lookup(error=7), BEST, tier)
    status, _ = kernel([np.array([0, bad, 2]), table], [3 * 33], (3, 10, 33))
    assert status == 7


def test_a_gather_along_the_inner_axis(tier):
    (x,) = randoms((3, 20))
    index = np.array([5, 0, 19, -1, -20, 7, 7] * 5, np.int64)
    spec = RegionSpec(
        domain=(3, 35), inputs=("i64", "f32"),
        body=(Load(0, (0, 1)), Load(1, (20, 0), 0, (Gather(0, 1, 20, 5),))),
        outputs=(Store(1, "f32", (35, 1)),),
    )  # fmt: skip
    got = check(spec, [index, x], [105], (), tier)
    assert (got[0].reshape(3, 35) == x[:, index]).all()
    index[34] = 20
    status, _ = CompiledRegion(spec, BEST, tier)([index, x], [105])
    assert status == 5


def test_a_causal_mask_from_indices(tier):
    spec = RegionSpec(
        domain=(P(0), P(0)), inputs=(), params=1,
        body=(Iota(0), Iota(1), Op("le", (1, 0), "bool"), Const(0.0, "f32"),
              Const(-1e9, "f32"), Op("where", (2, 3, 4), "f32")),
        outputs=(Store(5, "f32", (P(0), 1)), Store(2, "bool", (P(0), 1))),
    )  # fmt: skip
    check(spec, [], [37 * 37, 37 * 37], (37,), tier)


def test_a_scalar_region(tier):
    spec = RegionSpec(
        domain=(), inputs=("f32", "i64"),
        body=(Load(0, ()), Load(1, ()), Op("cast", (1,), "f32"), Op("mul", (0, 2), "f32")),
        outputs=(Store(3, "f32", ()),),
    )  # fmt: skip
    check(spec, [np.float32([2.5]), np.array([3])], [1], (), tier)


def test_contiguous_axes_collapse_even_with_symbolic_extents():
    a, b, c = P(0), P(1), P(2)
    strides = dims.row_major((a, b, c))
    spec = RegionSpec(
        domain=(a, b, c), inputs=("f32",), params=3,
        body=(Load(0, strides), Op("exp", (0,), "f32")), outputs=(Store(1, "f32", strides),),
    )  # fmt: skip
    assert len(plan(spec, 512).spec.domain) == 1
    assert dims.evaluate(units(spec, 512), (4, 100, 100)) == -(-40000 // 8192)

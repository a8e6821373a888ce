"""Region kernels of both tiers against the numpy meaning of their specs."""

import pickle

import numpy as np
import pytest
from support.region_oracle import DTYPES, NARROW, CompiledRegion, reference

from tilewright.backends import target
from tilewright.backends.llvm.mlir.lower import MlirUnavailable, bindings
from tilewright.backends.llvm.region import dims
from tilewright.backends.llvm.region.kernel import flops_bytes, grain, scratch_bytes, units
from tilewright.backends.llvm.region.schedule import plan
from tilewright.backends.llvm.region.spec import (
    Const,
    DimValue,
    Gather,
    Iota,
    Load,
    Op,
    Piece,
    Reduce,
    RegionError,
    RegionSpec,
    Store,
)

P = dims.param
SIZES = (1, 15, 16, 17, 31, 33, 100)
ROWS = [r for r in ("x86-64-v2", "x86-64-v3", "x86-64-v4") if target.runs_here(target.lookup(r))]
BEST = target.detect()


def tiers():
    try:
        bindings()
    except MlirUnavailable:
        return ["llvm"]
    return ["llvm", "mlir"]


@pytest.fixture(params=tiers())
def tier(request):
    return request.param


def check(spec, arrays, sizes, params=(), tier="llvm", row=BEST, rtol=2e-6, atol=1e-6, splits=1):
    """Compile, run against guard pages and compare; gives the outputs."""
    compiled = CompiledRegion(spec, row, tier)
    assert compiled.region.tier == tier, compiled.region.reason
    assert compiled.calls <= {"memset", "memcpy", "memset@PLT", "memcpy@PLT"}, compiled.calls
    return rerun(compiled, spec, arrays, sizes, params, rtol, atol, splits)


def rerun(compiled, spec, arrays, sizes, params=(), rtol=2e-6, atol=1e-6, splits=1):
    status, got = compiled(arrays, sizes, params, splits)
    assert status == 0
    want = reference(spec, arrays, params, sizes)
    for g, w, store in zip(got, want, spec.outputs, strict=True):
        if DTYPES[store.dtype].kind in "iub":
            assert (g == w).all(), (g[g != w][:5], w[g != w][:5])
            continue
        wide = [v.astype(np.float64) for v in (g, w)]
        limit = {"f16": 1e-3, "bf16": 8e-3}.get(store.dtype, rtol)
        np.testing.assert_allclose(*wide, rtol=limit, atol=atol)
    return got


def randoms(*shapes, dtype="f32", seed=0):
    rng = np.random.default_rng(seed)
    arrays = [rng.normal(size=s).astype(np.float32).astype(DTYPES[dtype]) for s in shapes]
    return arrays


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


def elementwise(name, arity, dtype, result=None):
    """One operator over a vector of p0 elements."""
    body = (*(Load(i, (1,)) for i in range(arity)), Op(name, tuple(range(arity)), result or dtype))
    return RegionSpec(
        domain=(P(0),), inputs=(dtype,) * arity, params=1, body=body,
        outputs=(Store(arity, result or dtype, (1,)),),
    )  # fmt: skip


def transposed(shape, perm, dtype="f32"):
    strides = dims.row_major(shape)
    domain = tuple(shape[p] for p in perm)
    return RegionSpec(
        domain=domain, inputs=(dtype,), body=(Load(0, tuple(strides[p] for p in perm)),),
        outputs=(Store(0, dtype, dims.row_major(domain)),),
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
        for tier in tiers()
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


@pytest.mark.parametrize("n", [0, *SIZES, 20000])
def test_pointwise_of_any_size_stays_inside_its_buffers(tier, n):
    spec = RegionSpec(
        domain=(P(0), 3), inputs=("f32", "f32"), params=1,
        body=(Load(0, (3, 1)), Load(1, (0, 1)), Op("add", (0, 1), "f32"),
              Op("gelu_erf", (2,), "f32")),
        outputs=(Store(3, "f32", (3, 1)), Store(2, "f32", (3, 1))),
    )  # fmt: skip
    x, b = randoms((n, 3), (3,))
    check(spec, [x, b], [3 * n, 3 * n], (n,), tier, splits=2)


FLOAT_OPS = {
    1: ["neg", "abs", "sqrt", "floor", "ceil", "round", "trunc", "sign", "relu", "recip", "rsqrt",
        "exp", "log", "tanh", "sin", "erf", "sigmoid", "silu", "expm1", "log1p", "atan"],
    2: ["add", "sub", "mul", "div", "max", "min", "pow", "mod", "fmod"],
    3: ["fma", "clip"],
}  # fmt: skip
SPECIAL = [0.0, -0.0, 1.0, -1.0, 2.5, -2.5, 0.5, np.inf, -np.inf, np.nan, 1e-40, 3e38, -7.25]


@pytest.mark.parametrize(
    ("arity", "name"), [(k, name) for k, names in FLOAT_OPS.items() for name in names]
)
def test_float_operators(name, arity):
    rng = np.random.default_rng(5)
    grid = np.array([(a, b) for a in SPECIAL for b in SPECIAL], np.float32)
    x = np.concatenate([grid[:, 0], rng.normal(size=40).astype(np.float32) * 4])
    y = np.concatenate([grid[:, 1], rng.normal(size=40).astype(np.float32) * 4])
    arrays = [x, y, np.abs(y) + 1][:arity]
    if name == "clip":
        arrays = [x, np.full_like(x, -1.5), np.full_like(x, 2)]
    check(elementwise(name, arity, "f32"), arrays, [x.size], (x.size,), atol=1e-6)


@pytest.mark.parametrize("dtype", ["i8", "i32", "i64", "u8", "u32"])
@pytest.mark.parametrize(
    "name", ["add", "sub", "mul", "div", "mod", "fmod", "max", "min", "and", "or", "xor", "shl"]
)
def test_integer_operators_wrap_and_never_trap(name, dtype):
    rng = np.random.default_rng(2)
    info = np.iinfo(DTYPES[dtype])
    edge = np.array([info.min, info.max, 0, 1, 2, 7, 3], DTYPES[dtype])
    edge = np.concatenate([edge, -edge]) if info.min else edge
    x, y = (g.ravel() for g in np.meshgrid(edge, edge))
    more = rng.integers(info.min, info.max, (2, 33), dtype=DTYPES[dtype])
    x, y = np.concatenate([x, more[0]]), np.concatenate([y, more[1]])
    if name == "shl":
        y = np.abs(y.astype(np.int64) % 70).astype(DTYPES[dtype])
    if name in ("div", "mod", "fmod") and info.min:
        keep = ~((x == info.min) & (y == -1))  # numpy warns; checked below
        x, y = x[keep], y[keep]
    check(elementwise(name, 2, dtype), [x, y], [x.size], (x.size,))


def test_the_most_negative_integer_divided_by_minus_one_wraps():
    x, y = np.full(17, -(2**31), np.int32), np.full(17, -1, np.int32)
    spec = elementwise("div", 2, "i32")
    status, (got,) = CompiledRegion(spec, BEST, "llvm")([x, y], [17], (17,))
    assert status == 0
    assert (got == -(2**31)).all()


@pytest.mark.parametrize("name", ["eq", "ne", "lt", "le", "gt", "ge"])
@pytest.mark.parametrize("dtype", ["f32", "i64", "u8"])
def test_comparisons(tier, name, dtype):
    x = np.array([0, 1, 2, 3, 200, 5, 6] * 5).astype(DTYPES[dtype])
    y = np.array([1, 1, 1, 3, 100, 6, 0] * 5).astype(DTYPES[dtype])
    check(elementwise(name, 2, dtype, "bool"), [x, y], [35], (35,), tier)


CASTS = ["f32", "f64", "f16", "bf16", "i8", "u8", "i32", "u32", "i64", "u64", "bool"]


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("source", CASTS)
def test_casts_between_all_types(source, row):
    values = [0, 1, -1, 2, 100, 127, 128, 255, -128, 3.7, -3.7, 0.5, 65504.0, 1e-7, 6e-5, 3.4e4]
    if source in ("f32", "f64", "f16", "bf16"):
        values += [np.inf, -np.inf, np.nan, 1e30, -1e30, 5e-8, 2.0**31, 2.0**63, 1 + 2.0**-11]
        with np.errstate(all="ignore"):
            x = np.array(values, np.float64).astype(DTYPES[source])
    else:
        x = np.array([int(v) for v in values], np.int64).astype(DTYPES[source])
    body, outputs = [Load(0, (1,))], []
    for k, goal in enumerate(CASTS):
        body.append(Op("cast", (0,), goal))
        outputs.append(Store(k + 1, goal, (1,)))
    spec = RegionSpec(domain=(P(0),), inputs=(source,), params=1, body=tuple(body),
                      outputs=tuple(outputs))  # fmt: skip
    check(spec, [x], [x.size] * len(CASTS), (x.size,), row=target.lookup(row))


@pytest.mark.parametrize("dtype", NARROW)
def test_every_small_float_survives_a_load_and_a_store(tier, dtype):
    size = DTYPES[dtype].itemsize
    bits = np.arange(1 << (8 * size), dtype=f"uint{8 * size}")
    spec = RegionSpec(
        domain=(P(0),), inputs=(dtype,), params=1,
        body=(Load(0, (1,)), Op("cast", (0,), "f32")),
        outputs=(Store(0, dtype, (1,)), Store(1, "f32", (1,))),
    )  # fmt: skip
    kernel = CompiledRegion(spec, BEST, tier)
    status, (same, wide) = kernel([bits.view(DTYPES[dtype])], [bits.size] * 2, (bits.size,))
    want = bits.view(DTYPES[dtype]).astype(np.float32)
    nan = np.isnan(want)
    assert status == 0
    assert (wide[~nan] == want[~nan]).all()
    assert np.isnan(wide[nan]).all()
    assert (same.view(bits.dtype)[~nan] == bits[~nan]).all()


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
    for step, start, count in ((-1, 49, 50), (2, 1, 20), (-3, 48, 16), (1, 7, 40)):
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


def test_contiguous_axes_collapse_even_with_symbolic_extents():
    a, b, c = P(0), P(1), P(2)
    strides = dims.row_major((a, b, c))
    spec = RegionSpec(
        domain=(a, b, c), inputs=("f32",), params=3,
        body=(Load(0, strides), Op("exp", (0,), "f32")), outputs=(Store(1, "f32", strides),),
    )  # fmt: skip
    assert len(plan(spec, 512).spec.domain) == 1
    assert dims.evaluate(units(spec, 512), (4, 100, 100)) == -(-40000 // 8192)


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

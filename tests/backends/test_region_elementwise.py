"""Every elementwise operator and cast of region kernels."""

import numpy as np
import pytest
from support.region_oracle import DTYPES, NARROW
from support.region_runner import BEST, ROWS, TIERS, CompiledRegion, check, randoms

from tilewright.backends import target
from tilewright.backends.llvm.region import dims
from tilewright.backends.llvm.region.spec import (
    Load,
    Op,
    RegionSpec,
    Store,
)

P = dims.param
SIZES = (1, 15, 16, 17, 31, 33, 100)


@pytest.fixture(params=TIERS)
def tier(request):
    return request.param


def elementwise(name, arity, dtype, result=None):
    """One operator over a vector of p0 elements."""
    body = (*(Load(i, (1,)) for i in range(arity)), Op(name, tuple(range(arity)), result or dtype))
    return RegionSpec(
        domain=(P(0),), inputs=(dtype,) * arity, params=1, body=body,
        outputs=(Store(arity, result or dtype, (1,)),),
    )  # fmt: skip


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

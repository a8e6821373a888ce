"""Regions for GPUs against the numpy meaning of their specs, with their C++ run on this CPU."""

import platform

import numpy as np
import pytest
import scipy.special
from support import emulated_regions, region_runner
from support.random_regions import random_region
from support.region_oracle import DTYPES

from tilewright.backends.llvm.region import dims
from tilewright.backends.llvm.region.spec import Gather, Load, Op, Piece, Reduce, RegionSpec, Store

pytestmark = pytest.mark.skipif(
    emulated_regions.COMPILER is None or platform.machine() != "x86_64",
    reason="needs g++ on an x86-64 machine",
)


@pytest.fixture(autouse=True)
def emulated(monkeypatch):
    monkeypatch.setattr(region_runner, "CompiledRegion", emulated_regions.EmulatedRegion)


@pytest.mark.parametrize("seed", range(200, 216))
def test_random_regions(seed):
    spec, arrays, sizes, params = random_region(seed)
    region_runner.check(spec, arrays, sizes, params, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", ["f32", "bf16", "i8"])
@pytest.mark.parametrize("shape", [(64, 128), (130, 67)])
def test_transposes_of_full_and_partial_tiles(dtype, shape):
    spec = RegionSpec(
        domain=shape[::-1], inputs=(dtype,), body=(Load(0, (1, shape[1])),),
        outputs=(Store(0, dtype, (shape[0], 1)),),
    )  # fmt: skip
    x = (np.arange(shape[0] * shape[1]) % 113).reshape(shape).astype(DTYPES[dtype])
    region_runner.check(spec, [x], [x.size])


@pytest.mark.parametrize("dtype", ["f16", "bf16"])
def test_what_is_stored_in_16_bits_is_rounded_once(dtype):
    spec = RegionSpec(
        domain=(40,), inputs=("f32",),
        body=(Load(0, (1,)), Op("neg", (0,), "f32"), Op("cast", (1,), dtype)),
        outputs=(Store(2, dtype, (1,)), Store(1, "f32", (1,))),
    )  # fmt: skip
    x = (np.random.default_rng(0).standard_normal(40) * 100).astype(np.float32)
    # Half-way cases of both types, numbers that only one has, the least ones, none.
    x[:10] = 1 + 2**-11, 1 + 2**-9, 65520, 65519, 1e-7, 2**-25, 3e38, np.inf, np.nan, 1e-40
    got, same = region_runner.check(spec, [x], [40, 40])
    with np.errstate(over="ignore"):
        want = (-x).astype(DTYPES[dtype])
    np.testing.assert_array_equal(got.astype(np.float32), want.astype(np.float32))
    np.testing.assert_array_equal(same, -x)


@pytest.mark.parametrize("kind", ["sum", "argmin_last"])
@pytest.mark.parametrize(("rows", "length", "axis"), [(2, 70001, 1), (5000, 40, 0)])
def test_units_that_several_blocks_share(rows, length, axis, kind):
    strides = (1, 0) if axis else (0, 1)
    store = Store(1, "i64" if kind.startswith("arg") else "f32", strides)
    spec = RegionSpec(
        domain=(dims.param(0), dims.param(1)), reduced=(axis,), inputs=("f32",), params=2,
        body=(Load(0, (dims.param(1), 1)), Reduce(kind, 0)), outputs=(store,),
    )  # fmt: skip
    (x,) = region_runner.randoms((rows, length))
    size = rows if axis else length
    region_runner.check(spec, [x], [size], (rows, length), rtol=1e-4, atol=2e-3)


@pytest.mark.parametrize("axis", [0, 1])
def test_many_pieces(axis):
    count, shape = 24, [4, 8]
    domain = (4 * count, 8) if axis == 0 else (4, 8 * count)
    step = 32 if axis == 0 else 8
    loads = tuple(Load(k, (8, 1), -k * step) for k in range(count))
    starts = tuple(shape[axis] * (k + 1) for k in range(count - 1))
    spec = RegionSpec(
        domain=domain, inputs=("f32",) * count,
        body=(*loads, Piece(axis, starts, tuple(range(count)))),
        outputs=(Store(count, "f32", (domain[1], 1)),),
    )  # fmt: skip
    region_runner.check(spec, region_runner.randoms(*[shape] * count), [32 * count])


def test_a_load_that_a_reduction_picks():
    gather = Gather(1, 64, 64, 3)
    body = (
        Load(0, (64, 1)),
        Reduce("argmax", 0),
        Load(1, (0, 1), 0, (gather,)),
        Op("mul", (0, 2), "f32"),
    )
    spec = RegionSpec(
        domain=(9, 64), reduced=(1,), inputs=("f32", "f32"), body=body,
        outputs=(Store(3, "f32", (64, 1)),),
    )  # fmt: skip
    region_runner.check(spec, region_runner.randoms((9, 64), (64, 64)), [9 * 64])


ACTIVATIONS = {
    "silu": (lambda x: x * scipy.special.expit(x), 4e-7, 1e-29),
    "sigmoid": (scipy.special.expit, 3e-7, 1e-30),
    "gelu_erf": (lambda x: x * scipy.special.ndtr(x), 1e-6, 0.01),
    "gelu_tanh": (
        lambda x: x * scipy.special.expit(np.sqrt(8 / np.pi) * (x + 0.044715 * x**3)),
        1e-6,
        0.01,
    ),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_are_within_what_is_stated(name):
    exact, bound, floor = ACTIVATIONS[name]
    rng = np.random.default_rng(0)
    x = [rng.normal(size=4000) * 4, np.linspace(-95, 95, 3000), [-3e38, 3e38, 0, np.inf, np.nan]]
    x = np.concatenate(x).astype(np.float32)
    spec = RegionSpec(
        domain=(x.size,), inputs=("f32",), body=(Load(0, (1,)), Op(name, (0,), "f32")),
        outputs=(Store(1, "f32", (1,)),),
    )  # fmt: skip
    status, (got,) = emulated_regions.EmulatedRegion(spec)([x], [x.size])
    with np.errstate(all="ignore"):
        want = exact(x.astype(np.float64))
    finite = np.isfinite(want)
    error = np.abs(got[finite] - want[finite]) / np.maximum(np.abs(want[finite]), floor)
    assert status == 0
    assert error.max() < bound
    assert got[-2] == want[-2]
    assert np.isnan(got[-1])

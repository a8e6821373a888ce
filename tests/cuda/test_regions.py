"""Every test of region kernels, with the kernels on a GPU."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from support import device_regions, region_oracle, region_runner
from support.random_regions import random_region

from tilewright.backends.llvm.region import dims
from tilewright.backends.llvm.region.spec import Gather, Load, Op, Reduce, RegionSpec, Store

pytestmark = pytest.mark.cuda


def _tests_of(name):
    """The module of tests/backends/``name``.py, as a copy of its own."""
    path = Path(__file__).parents[1] / "backends" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"device_{name}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


MODULES = [_tests_of(f"test_region{part}") for part in ("", "_elementwise", "_movement")]
for module in MODULES:
    for key, value in vars(module).items():
        if key.startswith("test_") or key == "tier":
            globals()[key] = value


@pytest.fixture(autouse=True)
def on_the_device(monkeypatch):
    if device_regions.driver() is None:
        pytest.skip("no NVIDIA GPU with a driver")
    monkeypatch.setattr(region_runner, "CompiledRegion", device_regions.DeviceRegion)
    for module in MODULES:
        if hasattr(module, "CompiledRegion"):
            monkeypatch.setattr(module, "CompiledRegion", device_regions.DeviceRegion)


@pytest.mark.parametrize("seed", range(120))
def test_random_regions(seed):
    spec, arrays, sizes, params = random_region(seed)
    region_runner.check(spec, arrays, sizes, params, rtol=1e-4, atol=1e-4)


def _total(rows, length, axis, kind="sum"):
    """One reduction of [rows, length], with the epilogue of a mean."""
    strides = (1, 0) if axis else (0, 1)
    body = (Load(0, (length, 1)), Reduce(kind, 0))
    result = "i64" if kind.startswith("arg") else "f32"
    return RegionSpec(
        domain=(rows, length), reduced=(axis,), inputs=("f32",), params=2, body=body,
        outputs=(Store(1, result, strides),),
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["sum", "max", "argmin_last"])
@pytest.mark.parametrize("symbolic", [False, True])
@pytest.mark.parametrize(
    ("rows", "length", "axis"), [(2, 300001, 1), (300001, 40, 0), (70, 40000, 1), (40000, 3000, 0)]
)
def test_units_that_several_blocks_share(rows, length, axis, symbolic, kind):
    shape = (dims.param(0), dims.param(1)) if symbolic else (rows, length)
    (x,) = region_runner.randoms((rows, length))
    params = (rows, length)
    kept = rows if axis else length
    region_runner.check(_total(*shape, axis, kind), [x], [kept], params, rtol=1e-4, atol=2e-3)


@pytest.mark.parametrize("symbolic", [False, True])
def test_a_softmax_whose_rows_are_shared(symbolic):
    rows, length = 3, 100003
    spec = (
        MODULES[0].softmax(dims.param(0), dims.param(1), 2)
        if symbolic
        else MODULES[0].softmax(rows, length, 2)
    )
    (x,) = region_runner.randoms((rows, length))
    region_runner.check(spec, [x], [x.size], (rows, length), rtol=1e-4, atol=1e-9)


def test_results_have_the_same_bits_in_every_run():
    spec, params = _total(dims.param(0), dims.param(1), 1), (3, 200000)
    (x,) = region_runner.randoms(params)
    runs = [device_regions.DeviceRegion(spec)([x], [3], params)[1][0] for _ in range(5)]
    assert all((r == runs[0]).all() for r in runs)


def test_a_load_that_a_reduction_picks():
    gather = Gather(1, 64, 64, 3)
    body = (Load(0, (64, 1)), Reduce("argmax", 0), Load(1, (0, 1), 0, (gather,)),
            Op("mul", (0, 2), "f32"))  # fmt: skip
    spec = RegionSpec(
        domain=(9, 64), reduced=(1,), inputs=("f32", "f32"), body=body,
        outputs=(Store(3, "f32", (64, 1)),),
    )  # fmt: skip
    region_runner.check(spec, region_runner.randoms((9, 64), (64, 64)), [9 * 64])


@pytest.mark.parametrize("dtype", ["bf16", "i8", "f32", "i64"])
@pytest.mark.parametrize("shape", [(64, 128), (130, 66), (256, 257), (3, 200, 136)])
def test_transposes_of_full_and_partial_tiles(dtype, shape):
    order = (*range(len(shape) - 2), len(shape) - 1, len(shape) - 2)
    numbers = np.arange(np.prod(shape)) % 113
    x = numbers.reshape(shape).astype(region_oracle.DTYPES[dtype])
    spec = MODULES[2].transposed(shape, order, dtype)
    (got,) = region_runner.check(spec, [x], [x.size])
    assert (got.reshape([shape[a] for a in order]) == x.transpose(order)).all()

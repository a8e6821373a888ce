"""Norms of rows in 16 bits against the numpy meaning of their regions: the C++ on this CPU, and on
a GPU."""

from dataclasses import replace

import numpy as np
import pytest
from support import device_regions, emulated_regions, region_runner
from support.norm_regions import norm_region
from support.region_oracle import DTYPES

from tilewright.backends.cuda.region import region_kernel
from tilewright.backends.cuda.region.normalize import normalization
from tilewright.backends.llvm.region import dims
from tilewright.backends.llvm.region.schedule import plan
from tilewright.backends.llvm.region.spec import Const, Op
from tilewright.backends.target import lookup

ROWS = dims.param(0)
CASES = [
    (5, 384, {}),
    (3, 4, {"given": "bf16", "made": "bf16"}),
    (6, 20, {"given": "f32", "made": "bf16"}),
    (2, 1024, {"made": "f32"}),
    (4, 132, {"kind": "rms", "vectors": ("scale",)}),
]
MORE = [
    (2055, 8, {"step": 4}),
    (4, 128, {"kind": "rms", "vectors": (), "given": "f32"}),
    (3, 260, {"vectors": ("bias",)}),
    (5, 100, {"vectors": (), "step": 8}),
    (4, 64, {"step": 3}),
    (0, 32, {}),
    (2050, 12, {"given": "f32", "kind": "rms", "vectors": ("scale",), "step": 1}),
]


def launch(tier: type, rows: int, width: int, shift: int, details: dict) -> None:
    """Rows of all kinds; every array ``shift`` elements behind a multiple of 16 bytes."""
    spec = norm_region(ROWS, width, **details)
    rng = np.random.default_rng([rows, width])
    given = DTYPES[spec.inputs[0]]
    x = rng.standard_normal((rows, width + details.get("step", 0))).astype(np.float32)
    x[1::5] = 3.0
    x[2::5] *= 1e-3
    x[3::5] += 200
    if rows > 4:
        x[4, 1], x[rows - 1, 2] = np.nan, np.inf
    vectors = [rng.standard_normal(width).astype(np.float32) for _ in spec.inputs[1:]]
    arrays = [_shifted(a, shift) for a in (x.astype(given).reshape(-1), *vectors)]
    compiled = tier(spec, lookup("sm_90a"), "llvm")
    region_runner.rerun(compiled, spec, arrays, [rows * width], (rows,), rtol=2e-5, atol=2e-5)


def _shifted(array: np.ndarray, by: int) -> np.ndarray:
    whole = np.zeros(array.size + by + 64, array.dtype)
    first = -(whole.ctypes.data // whole.itemsize) % 16 + by
    whole[first : first + array.size] = array
    return whole[first : first + array.size]


@pytest.mark.skipif(emulated_regions.COMPILER is None, reason="no g++")
@pytest.mark.parametrize(
    ("rows", "width", "details"),
    [*CASES, *(pytest.param(*m, marks=pytest.mark.slow) for m in MORE)],
)
def test_rows_are_normalized_as_the_region_says(rows: int, width: int, details: dict) -> None:
    spec = norm_region(ROWS, width, **details)
    assert normalization(plan(spec, 32)) is not None
    launch(emulated_regions.EmulatedRegion, rows, width, rows % 2, details)


@pytest.mark.cuda
@pytest.mark.parametrize(("rows", "width", "details"), [*CASES, *MORE])
def test_rows_on_the_device(rows: int, width: int, details: dict) -> None:
    if device_regions.driver() is None:
        pytest.skip("no NVIDIA GPU with a driver")
    launch(device_regions.DeviceRegion, rows, width, 0, details)


def _changed(node: int, **fields: object) -> object:
    spec = norm_region(4, 64)
    body = list(spec.body)
    body[node] = replace(body[node], **fields)
    return replace(spec, body=tuple(body))


@pytest.mark.parametrize(
    "spec",
    [
        norm_region(4, 64, "f32", "f32"),
        norm_region(4, 66),
        norm_region(4, 1028),
        norm_region(4, 0),
        _changed(2, value=63.0),
        _changed(0, strides=(64, 2)),
        _changed(3, kind="max"),
        _changed(5, name="add"),
        _changed(11, name="sqrt"),
        replace(norm_region(4, 64), inputs=("f16", "f32", "f16")),
    ],
)
def test_other_regions_are_computed_as_they_say(spec: object) -> None:
    assert normalization(plan(spec, 32)) is None


def test_numbers_within_the_pattern_are_read_from_it() -> None:
    spec = norm_region(ROWS, 64, eps=0.5)
    eps = [n for n in spec.body if isinstance(n, Const) and n.value == 0.5]
    roots = [n for n in spec.body if isinstance(n, Op) and n.name == "rsqrt"]
    assert len(eps) == len(roots) == 1
    norm = normalization(plan(spec, 32))
    assert norm is not None
    assert (norm.eps, norm.width, norm.centred) == (0.5, 64, True)
    kernel = region_kernel(spec, lookup("sm_90a"), "kernel")
    assert [e.grid[0] for e in kernel.entries] == ["((p0 + 3) // 4)"]

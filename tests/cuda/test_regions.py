"""Every test of region kernels, with the kernels on a GPU."""

import importlib.util
from pathlib import Path

import pytest
from support import device_regions, region_runner

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

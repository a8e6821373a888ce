"""What keeps a machine from running CUDA variants: every message in full."""

import pytest
from support import fake_cuda, tiny_cuda

import tilewright.runtime
from tilewright.runtime import ExecutionError, TargetError
from tilewright.runtime.cuda import device, driver

CUBIN = b"\x7fELF of the stand-in"


@pytest.fixture
def path(tmp_path):
    return tiny_cuda.write(tmp_path / "tiny.tw", False, CUBIN)


def said(path, kind=TargetError):
    with pytest.raises(kind) as caught:
        tilewright.runtime.load(path)
    return str(caught.value)


def test_without_the_package(path, monkeypatch):
    def missing(name):
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(driver, "import_module", missing)
    monkeypatch.setattr(driver, "_drivers", {})
    assert said(path) == (
        f"{path}: the artifact's CUDA code needs the package cuda-bindings\n"
        "  expected a package cuda-bindings, found none\n  try: pip install cuda-bindings"
    )


def test_without_a_driver(path, fake):
    def missing(*arguments):
        raise RuntimeError("Failed to dlopen libcuda.so.1")

    fake._cuDriverGetVersion = missing
    assert said(path) == (
        f"{path}: the NVIDIA driver cannot be used\n"
        "  cuda-bindings says: Failed to dlopen libcuda.so.1\n"
        "  try: install the driver of the GPU, or use a CPU variant"
    )


def test_a_driver_that_is_too_old(path, fake):
    fake.version = 11080
    assert said(path) == (
        f"{path}: the NVIDIA driver is too old\n"
        "  expected one for CUDA 12.3 or later, found one for CUDA 11.8\n"
        "  try: update the driver, or use a CPU variant"
    )


@pytest.mark.parametrize("how", ["cuInit", "cuDeviceGetCount"])
def test_no_device(path, fake, how):
    if how == "cuInit":
        fake.statuses["cuInit"] = 100
    else:
        fake.devices = 0
    assert said(path) == (
        f"{path}: the machine has no usable NVIDIA GPU\n"
        f"  {how} says: CUDA_ERROR_NO_DEVICE, no CUDA-capable device is detected\n"
        "  try: check nvidia-smi and CUDA_VISIBLE_DEVICES, or use a CPU variant"
    )


def test_another_architecture(path, fake):
    fake.capability = (8, 6)
    assert said(path) == (
        f"{path}: the artifact has no code for this GPU\n"
        "  expected code for compute capability 8.6 (Stand-in), found sm_90a, compute_90a\n"
        "  try: compile the model again with a target of this GPU"
    )


def test_a_driver_that_does_not_take_the_code(path, fake):
    fake.statuses["cuModuleLoadData"] = 222
    assert said(path) == (
        f"{path}: the GPU's driver does not take the model's code\n"
        "  cuModuleLoadData says: CUDA_ERROR_UNSUPPORTED_PTX_VERSION, the PTX was made by a newer "
        "toolchain\n"
        "  try: update the driver, or compile the model again with a target of this GPU"
    )


def test_a_failure_of_another_kind(path, fake):
    fake.statuses["cuStreamCreate"] = 999
    assert said(path, ExecutionError) == (
        f"{path}: the CUDA driver reports a failure\n"
        "  cuStreamCreate says: CUDA_ERROR_UNKNOWN, unknown error\n  try: see the message"
    )


def test_too_little_memory_for_the_weights(path, fake):
    fake.memory = 100
    assert said(path, ExecutionError) == (
        f"{path}: out of device memory\n  needed 256 bytes more, 100 of 100 bytes are free\n"
        "  try: use smaller inputs, or free device memory"
    )


@pytest.mark.parametrize(
    ("architecture", "capabilities"),
    [
        ("sm_80", {(8, 0), (8, 6), (8, 9)}),
        ("sm_90a", {(9, 0)}),
        ("compute_80", {(8, 0), (8, 6), (8, 9), (9, 0), (10, 0), (12, 0)}),
        ("compute_90a", {(9, 0)}),
        ("sm_100", {(10, 0)}),
        ("avx512f", set()),
    ],
)
def test_which_devices_run_what(architecture, capabilities):
    known = [(7, 5), (8, 0), (8, 6), (8, 9), (9, 0), (10, 0), (12, 0)]
    assert {c for c in known if device.fits(c, [architecture])} == capabilities


def test_the_stand_in_names_every_status_it_gives():
    assert {700, 222, 100, 2} <= set(fake_cuda.NAMES)

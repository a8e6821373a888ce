"""Every GPU family's cases on the device, between guard bands."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from multiprocessing import get_context
from os import cpu_count
from typing import Any

import pytest
from support.gpu_cases import check, machine_code

from tilewright.backends.cuda.kernel import CudaKernel
from tilewright.backends.kernels.family import KernelFamily
from tilewright.backends.kernels.registry import families
from tilewright.backends.target import TARGETS, Target
from tilewright.tools.bench.gpu_kernels import Device, DeviceError

PAIRS = [
    pytest.param(family, target, id=f"{name}-{target.name}")
    for name, family in families().items()
    for target in TARGETS.values()
    if target.gpu and family.serves(target)
]


@cache
def _device() -> Device | str:
    """The device, or why there is none."""
    try:
        return Device()
    except (ImportError, DeviceError, RuntimeError) as error:
        return f"no GPU: {error}"


@pytest.fixture
def device() -> Device:
    found = _device()
    if isinstance(found, str):
        pytest.skip(found)
    return found


def runs(target: Target, device: Device) -> bool:
    """Whether code of ``target`` runs: made for this device, or PTX for one before it."""
    made_for = int(target.name.removeprefix("sm_").rstrip("a"))
    return made_for == device.capability or (
        made_for < device.capability and not target.name.endswith("a")
    )


@pytest.fixture(scope="module")
def pool() -> Iterator[ProcessPoolExecutor]:
    """Of processes, since NVRTC compiles one text at a time; they import the compiler once."""
    with ProcessPoolExecutor(cpu_count(), get_context("spawn")) as made:
        yield made


@pytest.mark.cuda
@pytest.mark.parametrize(("family", "target"), PAIRS)
def test_kernel_on_the_device_is_the_reference(
    family: KernelFamily, target: Target, device: Device, pool: ProcessPoolExecutor
) -> None:
    if not runs(target, device):
        pytest.skip(f"{target.name} code does not run on compute capability {device.capability}")
    assert family.cuda is not None
    cases = family.cases()
    kernels: dict[Any, tuple[CudaKernel, str]] = {}
    for case in cases:
        name = f"kernel{len(kernels)}"
        if case.spec not in kernels:
            kernels[case.spec] = family.cuda(case.spec, target, name), name
    one = partial(machine_code, target=target, capability=device.capability)
    made = pool.map(one, *zip(*kernels.values(), strict=True))
    code = dict(zip(kernels, made, strict=True))
    for case in cases:
        kernel, name = kernels[case.spec]
        check(family, case, device, kernel, code[case.spec], name)

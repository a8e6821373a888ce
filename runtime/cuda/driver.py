"""The CUDA driver by cuda.bindings.driver: imported when first needed, every status checked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from tilewright.runtime.errors import ExecutionError, TargetError, TilewrightError

PACKAGE = "cuda.bindings.driver"
OLDEST = (12, 3)
"""Version of CUDA that the driver must know: tensor maps, launch attributes inside of graphs."""

OUT_OF_MEMORY, NO_DEVICE = 2, 100
_UNFIT = {200, 209, 218, 220, 221, 222, 223}
"""Statuses of loading code: not for this device or driver."""
_LOST = {214, 700, 702, 709, 710, 714, 715, 716, 717, 718, 719, 720, 721}
"""Statuses after which every call of the process on the device fails."""


class Failure(Exception):
    """A status of the driver that is not success. `lost`: the device's context is of no use."""

    def __init__(self, function: str, status: int, name: str, text: str, needed: str = "") -> None:
        super().__init__(f"{function}: {name}, {text}")
        self.function, self.status, self.name, self.text = function, status, name, text
        self.needed = needed
        self.lost = status in _LOST


class Driver:
    """Calls functions of the driver by name and gives what they return."""

    def __init__(self, module: Any) -> None:
        self.module = module

    def __call__(self, function: str, *arguments: Any) -> Any:
        """The result of a function: nothing, one value or a tuple. Raises Failure."""
        status, *values = getattr(self.module, function)(*arguments)
        if int(status):
            raise self.failure(function, status)
        return values[0] if len(values) == 1 else tuple(values)

    def checked(self, function: str) -> Callable[..., None]:
        """A function of the driver without results; Failure unless it ends well."""
        call = getattr(self.module, function)

        def run(*arguments: Any) -> None:
            status = call(*arguments)[0]
            if status:
                raise self.failure(function, status)

        return run

    def failure(self, function: str, status: Any, needed: str = "") -> Failure:
        """What to raise for a status. `needed`: what memory was asked for."""
        status = self.module.CUresult(status)
        words = []
        for describe in ("cuGetErrorName", "cuGetErrorString"):
            found = getattr(self.module, describe)(status)
            text = found[1] if len(found) > 1 else None
            words.append(text.decode() if isinstance(text, bytes) else f"status {int(status)}")
        return Failure(function, int(status), words[0], words[1], needed)


_drivers: dict[str, Driver] = {}


def open_driver(where: str) -> Driver:
    """The process's driver, initialized. `where`: what needs it, for messages.

    Raises TargetError: no package, no driver, one that is too old, no device.
    """
    found = _drivers.get(PACKAGE)
    if found is None:
        found = _drivers[PACKAGE] = _open(where)
    return found


def _open(where: str) -> Driver:
    try:
        module = import_module(PACKAGE)
    except ModuleNotFoundError:
        raise TargetError(
            where,
            "the artifact's CUDA code needs the package cuda-bindings",
            "expected a package cuda-bindings, found none",
            "pip install cuda-bindings",
        ) from None
    driver = Driver(module)
    try:
        version = _version(driver)
        if version < OLDEST:
            raise TargetError(
                where,
                "the NVIDIA driver is too old",
                f"expected one for CUDA {OLDEST[0]}.{OLDEST[1]} or later, "
                f"found one for CUDA {version[0]}.{version[1]}",
                "update the driver, or use a CPU variant",
            )
        driver("cuInit", 0)
        if driver("cuDeviceGetCount") == 0:
            raise driver.failure("cuDeviceGetCount", NO_DEVICE)
    except RuntimeError as refusal:
        if isinstance(refusal, TilewrightError):
            raise
        raise TargetError(
            where,
            "the NVIDIA driver cannot be used",
            f"cuda-bindings says: {refusal}",
            "install the driver of the GPU, or use a CPU variant",
        ) from None
    except Failure as failure:
        raise TargetError(
            where,
            "the machine has no usable NVIDIA GPU",
            f"{failure.function} says: {failure.name}, {failure.text}",
            "check nvidia-smi and CUDA_VISIBLE_DEVICES, or use a CPU variant",
        ) from None
    return driver


def _version(driver: Driver) -> tuple[int, int]:
    number = driver("cuDriverGetVersion")
    return number // 1000, number % 1000 // 10


@contextmanager
def reported(where: str) -> Iterator[None]:
    """Turns a Failure into the error that a user sees, about the artifact at `where`."""
    try:
        yield
    except Failure as failure:
        raise error_of(where, failure) from None


def error_of(where: str, failure: Failure) -> TilewrightError:
    """The user's error for a failure."""
    says = f"{failure.function} says: {failure.name}, {failure.text}"
    if failure.status == OUT_OF_MEMORY:
        return ExecutionError(
            where,
            "out of device memory",
            failure.needed or says,
            "use smaller inputs, or free device memory",
        )
    if failure.lost:
        return ExecutionError(
            where,
            "a kernel failed and the process has lost its CUDA context",
            says,
            "start a new process; nothing that uses the GPU works in this one",
        )
    if failure.status in _UNFIT:
        return TargetError(
            where,
            "the GPU's driver does not take the model's code",
            says,
            "update the driver, or compile the model again with a target of this GPU",
        )
    return ExecutionError(where, "the CUDA driver reports a failure", says, "see the message")

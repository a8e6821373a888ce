"""A GPU of this process: its context, its memory, and which code it runs."""

from __future__ import annotations

import ctypes
import os
import re
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from tilewright.runtime.cuda.driver import OUT_OF_MEMORY, Driver, Failure, open_driver, reported
from tilewright.runtime.errors import TargetError
from tilewright.runtime.manifest import Variant

_ARCHITECTURE = re.compile(r"(sm|compute)_(\d+)(\d)(a?)")
_CLUSTERS, _MULTIPROCESSORS, _MAJOR, _MINOR, _SHARED = 120, 16, 75, 76, 97
"""Numbers of CUdevice_attribute."""
GROWTH = 1.25
"""By how much memory grows at least that turned out to be too small."""
_MAPPED = 2
"""CU_MEMHOSTALLOC_DEVICEMAP"""
Held = TypeVar("Held")


class Device:
    """A GPU with its primary context, which other libraries of the process use too."""

    def __init__(self, driver: Driver, ordinal: int) -> None:
        self.driver, self.ordinal = driver, ordinal
        self.lost = ""
        """Name of the status that ended the context, if one did."""
        module = driver.module
        self._handle = driver("cuDeviceGet", ordinal)
        attribute = module.CUdevice_attribute
        self.capability, self.multiprocessors, self.shared = (
            (self._get(attribute(_MAJOR)), self._get(attribute(_MINOR))),
            self._get(attribute(_MULTIPROCESSORS)),
            self._get(attribute(_SHARED)),
        )
        self.context = driver("cuDevicePrimaryCtxRetain", self._handle)
        self._number = int(self.context)
        self._current = module.cuCtxGetCurrent
        self._release = weakref.finalize(self, _release, driver, self._handle, os.getpid())
        self._release.atexit = False

    def _get(self, attribute: Any) -> int:
        return int(self.driver("cuDeviceGetAttribute", attribute, self._handle))

    @property
    def name(self) -> str:
        """As the driver calls it."""
        text: bytes = self.driver("cuDeviceGetName", 256, self._handle)
        return text.split(b"\0")[0].decode(errors="replace")

    def enter(self) -> bool:
        """Make the context that of this thread; whether `leave` must undo that."""
        status, current = self._current()
        if not int(status) and int(current) == self._number:
            return False
        self.driver("cuCtxPushCurrent", self.context)
        return True

    def leave(self) -> None:
        """Undo `enter`."""
        self.driver.module.cuCtxPopCurrent()

    @contextmanager
    def active(self) -> Iterator[None]:
        """The context is that of this thread inside."""
        entered = self.enter()
        try:
            yield
        finally:
            if entered:
                self.leave()

    def free_bytes(self) -> tuple[int, int]:
        """Bytes of device memory that are free, and all of it."""
        free, total = self.driver("cuMemGetInfo")
        return int(free), int(total)


class Memory:
    """Device memory at `address`, freed with the last reference. Raises Failure."""

    def __init__(self, device: Device, size: int) -> None:
        self.device, self.bytes = device, size
        self.address = 0
        if size:
            status, pointer = device.driver.module.cuMemAlloc(size)
            if int(status) == OUT_OF_MEMORY:
                free, total = device.free_bytes()
                needed = f"needed {size:,} bytes more, {free:,} of {total:,} bytes are free"
                raise device.driver.failure("cuMemAlloc", status, needed)
            if int(status):
                raise device.driver.failure("cuMemAlloc", status)
            self.address = int(pointer)
        self.free = weakref.finalize(self, _free, device, "cuMemFree", self.address, os.getpid())
        self.free.atexit = False


def grown(device: Device, before: int, size: int) -> Memory:
    """Memory of `size` bytes instead of `before`, which was too small: with room for more, where
    there is, since what grows once grows again (the past of a decoding loop). Raises Failure."""
    return _with_room(Memory, device, before, size)


def _with_room(kind: Callable[[Device, int], Held], device: Device, before: int, size: int) -> Held:
    room = int(before * GROWTH)
    if room > size:
        try:
            return kind(device, room)
        except Failure as failure:
            if failure.status != OUT_OF_MEMORY:
                raise
    return kind(device, size)


class Pinned:
    """Host memory at `address` that the device copies from and to, and sees at `mapped`."""

    def __init__(self, device: Device, size: int) -> None:
        self.device, self.bytes = device, size
        self.address = int(device.driver("cuMemHostAlloc", max(size, 64), _MAPPED))
        self.mapped = int(device.driver("cuMemHostGetDevicePointer", self.address, 0))
        ctypes.memset(self.address, 0, max(size, 64))
        self.free = weakref.finalize(
            self, _free, device, "cuMemFreeHost", self.address, os.getpid()
        )
        self.free.atexit = False

    def at_least(self, size: int) -> Pinned:
        """Itself, or one of `size` bytes or more instead, as `grown`."""
        if self.bytes >= size:
            return self
        self.free()
        return _with_room(Pinned, self.device, self.bytes, size)


def _free(device: Device, function: str, address: int, owner: int) -> None:
    # A forked child has no context. A lost context has freed everything.
    if address and os.getpid() == owner:
        entered = _quietly_enter(device)
        getattr(device.driver.module, function)(address)
        if entered:
            device.leave()


def _quietly_enter(device: Device) -> bool:
    try:
        return device.enter()
    except Failure:
        return False


def _release(driver: Driver, handle: Any, owner: int) -> None:
    if os.getpid() == owner:
        driver.module.cuDevicePrimaryCtxRelease(handle)


_devices: weakref.WeakValueDictionary[tuple[int, int], Device] = weakref.WeakValueDictionary()
_lock = threading.Lock()


def open_device(where: str) -> Device:
    """The device whose context this thread uses, else the first one. Raises TargetError."""
    driver = open_driver(where)
    with reported(where), _lock:
        ordinal = 0
        if int(driver("cuCtxGetCurrent")):
            ordinal = int(driver("cuCtxGetDevice"))
        key = (id(driver), ordinal)
        found = _devices.get(key)
        if found is None:
            found = _devices[key] = Device(driver, ordinal)
        return found


def fits(capability: tuple[int, int], architectures: Iterable[str]) -> bool:
    """Whether code for one of these architectures (sm_80, sm_90a, compute_80) runs on a device."""
    return any(_fits(capability, architecture) for architecture in architectures)


def _fits(capability: tuple[int, int], architecture: str) -> bool:
    match = _ARCHITECTURE.fullmatch(architecture)
    if match is None:
        return False
    kind, major, minor, only = match.groups()
    made = (int(major), int(minor))
    if only:
        return capability == made
    if kind == "compute":
        return capability >= made
    return capability[0] == made[0] and capability >= made


def runnable_on_device(where: str, variants: Sequence[Variant]) -> list[Variant]:
    """The variants that the device runs, best first; TargetError naming why not if none."""
    device = open_device(where)
    fitting = [v for v in variants if fits(device.capability, v.features)]
    if not fitting:
        major, minor = device.capability
        made = ", ".join(dict.fromkeys(name for v in variants for name in v.features))
        raise TargetError(
            where,
            "the artifact has no code for this GPU",
            f"expected code for compute capability {major}.{minor} ({device.name}), found {made}",
            "compile the model again with a target of this GPU",
        )
    return sorted(fitting, key=lambda variant: -variant.rank)

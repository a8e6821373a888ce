"""A stand-in for cuda.bindings.driver where no GPU is: host memory, kernels in numpy, in order.

It has what the runtime calls and no more. Work is done when it is queued, in a capture when the
graph is launched. `statuses` makes a function fail: {"cuInit": 100}.
"""

from __future__ import annotations

import ctypes
import struct
from types import SimpleNamespace
from typing import Any

import numpy as np
from support.tiny_cuda import COLUMNS

OUT_OF_MEMORY, NOT_FOUND = 2, 500
NAMES = {
    2: (b"CUDA_ERROR_OUT_OF_MEMORY", b"out of memory"),
    100: (b"CUDA_ERROR_NO_DEVICE", b"no CUDA-capable device is detected"),
    200: (b"CUDA_ERROR_INVALID_IMAGE", b"device kernel image is invalid"),
    209: (b"CUDA_ERROR_NO_BINARY_FOR_GPU", b"no kernel image is available for execution"),
    222: (b"CUDA_ERROR_UNSUPPORTED_PTX_VERSION", b"the PTX was made by a newer toolchain"),
    500: (b"CUDA_ERROR_NOT_FOUND", b"named symbol not found"),
    700: (b"CUDA_ERROR_ILLEGAL_ADDRESS", b"an illegal memory access was encountered"),
    999: (b"CUDA_ERROR_UNKNOWN", b"unknown error"),
}


class Handle(int):
    """What the driver gives for a stream, an event, a graph: a number that compares as itself."""


class Driver:
    """The module. `calls`: names of functions in the order in which they were called."""

    PASSED = ("cuStreamDestroy", "cuEventDestroy", "cuEventRecord", "cuEventSynchronize",
              "cuStreamWaitEvent", "cuModuleUnload", "cuFuncSetAttribute", "cuGraphDestroy",
              "cuGraphExecDestroy", "cuDevicePrimaryCtxRelease", "cuInit", "cuCtxPopCurrent",
              "cuCtxPushCurrent", "cuStreamSynchronize", "cuCtxSynchronize")  # fmt: skip
    """Functions that do nothing here and give nothing."""

    def __init__(self, version: int = 13000, devices: int = 1, memory: int = 1 << 30) -> None:
        self.version, self.devices, self.memory = version, devices, memory
        self.capability = (9, 0)
        self.statuses: dict[str, int] = {}
        self.calls: list[str] = []
        self.held: dict[int, Any] = {}
        self.names: dict[int, str] = {}
        self.recording: list[Any] | None = None
        self.last = 0
        for kind in ("CUdevice_attribute", "CUfunction_attribute", "CUstreamCaptureMode",
                     "CUtensorMapDataType", "CUtensorMapInterleave", "CUtensorMapSwizzle",
                     "CUtensorMapL2promotion", "CUtensorMapFloatOOBfill", "CUlaunchAttributeID",
                     "CUresult", "cuuint64_t", "cuuint32_t"):  # fmt: skip
            setattr(self, kind, int)
        self.CUlaunchConfig = self.CUlaunchAttribute = SimpleNamespace

    def CUlaunchAttributeValue(self) -> Any:
        return SimpleNamespace(clusterDim=SimpleNamespace())

    def __getattribute__(self, name: str) -> Any:
        get = super().__getattribute__
        if not name.startswith("cu") or name.startswith("cuuint"):
            return get(name)

        def call(*arguments: Any) -> tuple[Any, ...]:
            get("calls").append(name)
            status = get("statuses").get(name, 0)
            if status:
                return (status, None)
            if name in get("PASSED"):
                return (0,)
            found = get("_" + name)(*arguments)
            return found if isinstance(found, tuple) else (0, found)

        return call

    def _handle(self) -> Handle:
        self.last += 1
        return Handle(self.last)

    # The device ------------------------------------------------------------------------------

    def _cuDriverGetVersion(self) -> int:
        return self.version

    def _cuDeviceGetCount(self) -> int:
        return self.devices

    def _cuDeviceGet(self, ordinal: int) -> int:
        return ordinal

    def _cuDeviceGetName(self, size: int, device: int) -> bytes:
        return b"Stand-in\0\0"

    def _cuDeviceGetAttribute(self, attribute: int, device: int) -> int:
        return {75: self.capability[0], 76: self.capability[1], 16: 4, 97: 227 << 10}[attribute]

    def _cuDevicePrimaryCtxRetain(self, device: int) -> int:
        return 77

    def _cuCtxGetCurrent(self) -> int:
        return 0

    def _cuGetErrorName(self, status: int) -> Any:
        return NAMES[status][0]

    def _cuGetErrorString(self, status: int) -> Any:
        return NAMES[status][1]

    # Memory ----------------------------------------------------------------------------------

    def _used(self) -> int:
        return sum(len(block) for block in self.held.values())

    def _cuMemGetInfo(self) -> tuple[int, int, int]:
        return 0, self.memory - self._used(), self.memory

    def _cuMemAlloc(self, size: int) -> tuple[int, Any]:
        if self._used() + size > self.memory:
            return OUT_OF_MEMORY, None
        block = ctypes.create_string_buffer(size + 256)
        block.raw = b"\xaa" * (size + 256)
        address = -(-ctypes.addressof(block) // 256) * 256
        self.held[address] = block
        return 0, address

    _cuMemHostAlloc = lambda self, size, flags: self._cuMemAlloc(size)  # noqa: E731

    def _cuMemHostGetDevicePointer(self, address: int, flags: int) -> int:
        return address

    def _cuMemFree(self, address: int) -> tuple[int]:
        del self.held[address]
        return (0,)

    _cuMemFreeHost = _cuMemFree

    def _queue(self, work: Any) -> tuple[int]:
        if self.recording is not None:
            self.recording.append(work)
        else:
            work()
        return (0,)

    def _copy(self, target: int, source: int, size: int, stream: Any = None) -> tuple[int]:
        return self._queue(lambda: ctypes.memmove(target, source, size))

    _cuMemcpyHtoD = _cuMemcpyDtoH = _cuMemcpyHtoDAsync = _cuMemcpyDtoHAsync = _copy
    _cuMemcpyDtoDAsync = _copy

    # Streams and graphs ----------------------------------------------------------------------

    def _cuStreamCreate(self, flags: int) -> Handle:
        return self._handle()

    _cuEventCreate = _cuStreamCreate

    def _cuEventElapsedTime(self, begin: int, end: int) -> float:
        return 0.5

    def _cuStreamBeginCapture(self, stream: int, mode: int) -> tuple[int]:
        self.recording = []
        return (0,)

    def _cuStreamEndCapture(self, stream: int) -> Any:
        found, self.recording = self.recording, None
        return (0, found)

    def _cuGraphInstantiate(self, graph: Any, flags: int) -> Any:
        return (0, graph)

    def _cuGraphLaunch(self, graph: Any, stream: int) -> tuple[int]:
        for work in graph:
            work()
        return (0,)

    # Kernels ---------------------------------------------------------------------------------

    def _cuModuleLoadData(self, image: bytes) -> Any:
        return (0, self._handle()) if image.startswith(b"\x7fELF") else (200, None)

    def _cuModuleGetFunction(self, module: int, name: bytes) -> Any:
        if name.decode() not in KERNELS:
            return NOT_FOUND, None
        found = self._handle()
        self.names[found] = name.decode()
        return (0, found)

    def _cuTensorMapEncodeTiled(self, *arguments: Any) -> Any:
        _, _, address, dims, *_ = arguments
        self.map = ctypes.create_string_buffer(struct.pack("=2Q", address, dims[1]), 128)
        return (0, SimpleNamespace(getPtr=lambda: ctypes.addressof(self.map)))

    def _cuLaunchKernelEx(self, config: Any, function: int, parameters: int, extra: int) -> Any:
        kernel, count = KERNELS[self.names[function]]
        pointers = (ctypes.c_void_p * count).from_address(parameters)
        words = [ctypes.c_int64.from_address(pointer).value for pointer in pointers]
        return self._queue(lambda: kernel(*words))


def _floats(address: int, *shape: int) -> np.ndarray[Any, Any]:
    count = int(np.prod(shape))
    if not count:
        return np.zeros(shape, np.float32)
    found = np.ctypeslib.as_array((ctypes.c_float * count).from_address(address))
    return found.reshape(shape)


def _scale(x: int, w: int, y: int, rows: int, units: int, work: int, status: int) -> None:
    given = _floats(x, rows, COLUMNS)
    _floats(work, rows, COLUMNS)[:] = given * _floats(w, COLUMNS)
    if np.isnan(given).any():
        ctypes.c_int32.from_address(status).value = 1


def _scale_out(x: int, w: int, y: int, rows: int, units: int, work: int, status: int) -> None:
    _floats(y, rows, COLUMNS)[:] = _floats(work, rows, COLUMNS)


def _shift(x: int, y: int, rows: int, *rest: int) -> None:
    _floats(y, rows, COLUMNS)[:] = _floats(x, rows, COLUMNS) + 1


def _tiles(address: int, x: int, sums: int, flag: int, rows: int, *rest: int) -> None:
    _floats(sums, rows)[:] = _floats(address, rows, COLUMNS).sum(1)


def _count(x: int, kept: int, flag: int, n: int, rows: int, *rest: int) -> None:
    given = _floats(x, rows, COLUMNS)
    found = np.flatnonzero(given.sum(1) > 0)
    for i, row in enumerate(found):
        ctypes.c_int64.from_address(kept + 8 * i).value = row
    ctypes.c_int64.from_address(n).value = len(found)
    ctypes.c_bool.from_address(flag).value = bool(rows and given[0, 0] > 0)


def _twice(sums: int, rows: int, *rest: int) -> None:
    _floats(sums, rows)[:] *= 2


KERNELS = {
    "scale": (_scale, 7), "scale_out": (_scale_out, 7), "shift": (_shift, 6),
    "tiles": (_tiles, 8), "count": (_count, 8), "twice": (_twice, 5),
}  # fmt: skip
"""Functions of `tiny_cuda` and how many parameters they have."""

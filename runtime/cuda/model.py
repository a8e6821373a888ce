"""The code and the weights of a variant on a device, shared by the sessions of a process."""

from __future__ import annotations

import threading
import weakref
from typing import Any

from tilewright.runtime.cuda.device import Device, Memory
from tilewright.runtime.cuda.driver import Failure, reported
from tilewright.runtime.cuda.program import Extent, Kernel, Program
from tilewright.runtime.cuda.reader import read_program
from tilewright.runtime.errors import ArtifactError
from tilewright.runtime.loader import ArtifactFile
from tilewright.runtime.manifest import Variant

_ALIGN = 256
_LARGEST_SHARED, _LARGE_CLUSTERS = 8, 14
"""Numbers of CUfunction_attribute."""
_PORTABLE_SHARED, _PORTABLE_CLUSTER = 48 << 10, 8
_INVALID_IMAGE, _NO_BINARY = 200, 209
_NOT_FOUND = 500


class Function:
    """A `__global__` function; the driver hears of its limits when they are first needed."""

    def __init__(self, device: Device, handle: Any) -> None:
        self.handle = handle
        self._device = device
        self._shared = _PORTABLE_SHARED

    def allow_cluster(self, blocks: int) -> None:
        """Let clusters have this many blocks."""
        if blocks > _PORTABLE_CLUSTER:
            self._set(_LARGE_CLUSTERS, 1)

    def allow_shared(self, size: int) -> None:
        """Let blocks have `size` bytes of dynamic shared memory."""
        if size > self._shared:
            self._set(_LARGEST_SHARED, size)
            self._shared = size

    def _set(self, attribute: int, value: int) -> None:
        driver = self._device.driver
        kind = driver.module.CUfunction_attribute
        driver("cuFuncSetAttribute", self.handle, kind(attribute), value)


class DeviceModel:
    """Loaded modules (`functions` of every kernel, one an entry) and weights (`addresses`).

    Raises ArtifactError for a program that cannot be read, TargetError for code that the device
    does not take, ExecutionError when its memory is too small.
    """

    def __init__(self, device: Device, file: ArtifactFile, variant: Variant) -> None:
        self.device, self.where = device, file.where
        self.program: Program = read_program(file.where, file.read(variant.file))
        self._file = file
        self._modules: list[Any] = []
        with reported(file.where), device.active():
            self._unload = weakref.finalize(self, _unload, device, self._modules)
            self._unload.atexit = False
            self._load_modules()
            self.functions = [self._functions(kernel) for kernel in self.program.kernels]
            self._upload()

    def _load_modules(self) -> None:
        code = self._file.read(self.program.code)
        for module in self.program.modules:
            for extent in (module.cubin, module.ptx):
                if extent is not None and extent.offset + extent.bytes > len(code):
                    raise self._damage(f"a module ends beyond the {len(code)} bytes of code")
            try:
                self._modules.append(self._load(code, module.cubin or module.ptx))
            except Failure as failure:
                unfit = failure.status in (_INVALID_IMAGE, _NO_BINARY)
                if not unfit or module.cubin is None or module.ptx is None:
                    raise
                self._modules.append(self._load(code, module.ptx))

    def _load(self, code: memoryview, extent: Extent | None) -> Any:
        assert extent is not None, "the reader checks that a module has code"
        # PTX is text that ends with a zero; a cubin does not mind one.
        image = bytes(code[extent.offset : extent.offset + extent.bytes]) + b"\0"
        return self.device.driver("cuModuleLoadData", image)

    def _functions(self, kernel: Kernel) -> list[Function]:
        found = []
        for entry in kernel.entries:
            name = kernel.name + entry.suffix
            try:
                handle = self.device.driver(
                    "cuModuleGetFunction", self._modules[kernel.module], name.encode()
                )
            except Failure as failure:
                if failure.status == _NOT_FOUND:
                    raise self._damage(f"its module has no function {name}") from None
                raise
            function = Function(self.device, handle)
            function.allow_cluster(entry.cluster[0] * entry.cluster[1] * entry.cluster[2])
            found.append(function)
        return found

    def _upload(self) -> None:
        offsets, size = [], 0
        for weight in self.program.weights:
            offsets.append(size)
            size += -(-weight.bytes // _ALIGN) * _ALIGN
        self.memory = Memory(self.device, size)
        self.addresses = [self.memory.address + offset for offset in offsets]
        if not size:
            return
        entry = self._file.entry(self._file.manifest.weights_file)
        base = self._file.manifest.weights_base
        source = self._file.weights_address()
        copy = self.device.driver.checked("cuMemcpyHtoD")
        for weight, address in zip(self.program.weights, self.addresses, strict=True):
            if base + weight.offset + weight.bytes > entry.size:
                raise self._damage("a weight ends beyond the weight data")
            if weight.bytes:
                copy(address, source + weight.offset, weight.bytes)
        self._file.wait_verified()

    def _damage(self, what: str) -> ArtifactError:
        return ArtifactError(
            self.where,
            "the artifact's CUDA program does not fit its code",
            what,
            "compile the artifact again",
        )


def _unload(device: Device, modules: list[Any]) -> None:
    for module in modules:
        device.driver.module.cuModuleUnload(module)


_models: weakref.WeakKeyDictionary[
    ArtifactFile, weakref.WeakValueDictionary[tuple[str, int], DeviceModel]
] = weakref.WeakKeyDictionary()
_lock = threading.Lock()


def open_model(device: Device, file: ArtifactFile, variant: Variant) -> DeviceModel:
    """The variant on the device: sessions of one file share it."""
    with _lock:
        models = _models.setdefault(file, weakref.WeakValueDictionary())
        found = models.get((variant.file, device.ordinal))
        if found is None:
            found = models[(variant.file, device.ordinal)] = DeviceModel(device, file, variant)
        return found

"""One GPU kernel alone on the device: compiled, loaded and launched as a program would do it."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from tilewright.backends.cuda import prelude, toolchain
from tilewright.backends.cuda.kernel import WORKSPACE, CudaKernel, TensorMap
from tilewright.backends.target import Target
from tilewright.runtime import expressions

ELEMENTS = {"bf16": "BFLOAT16", "f16": "FLOAT16", "f32": "FLOAT32", "u8": "UINT8", "i8": "UINT8"}
"""Type of a tensor map's elements -> the driver's name."""


Names = tuple[tuple[str, int], ...]
"""Values of the names in formulas."""


@cache
def evaluate(text: str, values: Names) -> int:
    """The value of a formula."""
    return expressions.evaluate(text, dict(values))


class DeviceError(RuntimeError):
    """A call of the driver failed."""


def cubin(kernel: CudaKernel, name: str, target: Target) -> toolchain.Cubin:
    """Machine code of ``kernel`` and what its entries take."""
    if kernel.language == "cuda":
        return toolchain.to_both(prelude.expand(kernel.source), name, target)[1]
    return toolchain.to_cubin(kernel.source, name, target)


@dataclass(frozen=True)
class Prepared:
    """A launch with everything it needs; ``keep`` holds what the driver reads."""

    run: Callable[[int], None]
    keep: tuple[Any, ...]


class Device:
    """The first device and its primary context, which PyTorch uses too."""

    def __init__(self) -> None:
        from cuda.bindings import driver

        self.driver = driver
        self._call(driver.cuInit(0))
        device = self._call(driver.cuDeviceGet(0))
        self.context = self._call(driver.cuDevicePrimaryCtxRetain(device))
        self._call(driver.cuCtxSetCurrent(self.context))
        count = driver.CUdevice_attribute.CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT
        self.sms = int(self._call(driver.cuDeviceGetAttribute(count, device)))
        parts = [
            driver.CUdevice_attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR,
            driver.CUdevice_attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR,
        ]
        major, minor = (int(self._call(driver.cuDeviceGetAttribute(p, device))) for p in parts)
        self.capability = 10 * major + minor

    def _call(self, result: tuple[Any, ...]) -> Any:
        status, *values = result
        if status != self.driver.CUresult.CUDA_SUCCESS:
            _, text = self.driver.cuGetErrorString(status)
            raise DeviceError(f"{status}: {text}")
        return values[0] if values else None

    def load(self, code: bytes) -> Any:
        """A module of machine code."""
        return self._call(self.driver.cuModuleLoadData(code))

    def unload(self, module: Any) -> None:
        self._call(self.driver.cuModuleUnload(module))

    def allocate(self, size: int) -> int:
        """Address of ``size`` bytes."""
        return int(self._call(self.driver.cuMemAlloc(max(size, 1))))

    def free(self, address: int) -> None:
        self._call(self.driver.cuMemFree(address))

    def upload(self, address: int, data: bytes) -> None:
        if data:
            self._call(self.driver.cuMemcpyHtoD(address, data, len(data)))

    def download(self, address: int, size: int) -> bytearray:
        data = bytearray(size)
        if size:
            self._call(self.driver.cuMemcpyDtoH(data, address, size))
        return data

    def finish(self) -> None:
        """Waits for everything; raises DeviceError for a kernel that faulted."""
        self._call(self.driver.cuCtxSynchronize())

    def workspace(self, kernel: CudaKernel, values: Names) -> int:
        """Bytes of it."""
        return evaluate(kernel.workspace, values)

    def values(self, operands: Sequence[int], dims: Sequence[int], units: int) -> Names:
        """Of formulas at a launch. Of addresses only the alignment counts."""
        named = {f"p{i}": dim for i, dim in enumerate(dims)}
        named |= {f"a{i}": address % 256 for i, address in enumerate(operands)}
        return tuple((named | {"units": units, "sms": self.sms}).items())

    def prepare(
        self,
        module: Any,
        kernel: CudaKernel,
        name: str,
        operands: Sequence[int],
        dims: Sequence[int],
        units: int,
        workspace: int,
        status: int,
    ) -> Prepared:
        """The launch of all entries on addresses; `run` takes the handle of a stream."""
        driver = self.driver
        values = self.values(operands, dims, units)
        fixed: list[Any] = [ctypes.c_void_p(a) for a in operands]
        fixed += [ctypes.c_longlong(d) for d in (*dims, units)]
        fixed += [ctypes.c_void_p(workspace), ctypes.c_void_p(status)]
        launches: list[tuple[Any, ...]] = []
        keep: list[Any] = [fixed]
        for entry in kernel.entries:
            grid = [evaluate(text, values) for text in entry.grid]
            if 0 in grid:
                continue
            function = self._call(
                driver.cuModuleGetFunction(module, (name + entry.suffix).encode())
            )
            shared = evaluate(entry.shared, values)
            # Above 48 KiB a function has to ask.
            most = driver.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
            self._call(driver.cuFuncSetAttribute(function, most, shared))
            maps = [self._encode(m, operands, workspace, values) for m in entry.maps]
            places = [m.getPtr() for m in maps] + [ctypes.addressof(x) for x in fixed]
            table = (ctypes.c_void_p * len(places))(*places)
            config = driver.CUlaunchConfig()
            config.gridDimX, config.gridDimY, config.gridDimZ = grid
            config.blockDimX, config.blockDimY, config.blockDimZ = entry.block
            config.sharedMemBytes = shared
            attributes = []
            if entry.cluster != (1, 1, 1):
                attribute = driver.CUlaunchAttribute()
                attribute.id = driver.CUlaunchAttributeID.CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION
                cluster = attribute.value.clusterDim
                cluster.x, cluster.y, cluster.z = entry.cluster
                attributes.append(attribute)
            if entry.overlaps:
                attribute = driver.CUlaunchAttribute()
                kinds = driver.CUlaunchAttributeID
                attribute.id = kinds.CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION
                attribute.value.programmaticStreamSerializationAllowed = 1
                attributes.append(attribute)
            config.attrs, config.numAttrs = attributes, len(attributes)
            launches.append((config, function, table))
            keep.append((maps, attributes, table))

        def run(stream: int) -> None:
            for config, function, table in launches:
                config.hStream = driver.CUstream(stream)
                self._call(driver.cuLaunchKernelEx(config, function, ctypes.addressof(table), 0))

        return Prepared(run, tuple(keep))

    def _encode(
        self, tensor: TensorMap, operands: Sequence[int], workspace: int, values: Names
    ) -> Any:
        driver = self.driver
        base = workspace if tensor.operand == WORKSPACE else operands[tensor.operand]
        kinds = driver.CUtensorMapDataType
        wide, narrow = driver.cuuint64_t, driver.cuuint32_t
        swizzles = driver.CUtensorMapSwizzle
        swizzle = "NONE" if tensor.swizzle == 0 else f"{tensor.swizzle}B"
        return self._call(
            driver.cuTensorMapEncodeTiled(
                getattr(kinds, f"CU_TENSOR_MAP_DATA_TYPE_{ELEMENTS[tensor.dtype]}"),
                len(tensor.dims),
                base + evaluate(tensor.offset, values),
                [wide(evaluate(text, values)) for text in tensor.dims],
                [wide(evaluate(text, values)) for text in tensor.strides],
                [narrow(size) for size in tensor.box],
                [narrow(1) for _ in tensor.box],
                driver.CUtensorMapInterleave.CU_TENSOR_MAP_INTERLEAVE_NONE,
                getattr(swizzles, f"CU_TENSOR_MAP_SWIZZLE_{swizzle}"),
                driver.CUtensorMapL2promotion.CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
                driver.CUtensorMapFloatOOBfill.CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE,
            )
        )

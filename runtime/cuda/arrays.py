"""Arrays on a device that a session made or was given."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from tilewright.runtime.cuda import dlpack
from tilewright.runtime.cuda.device import Device
from tilewright.runtime.cuda.driver import reported
from tilewright.runtime.cuda.spares import Lent
from tilewright.runtime.dtypes import ELEMENT_TYPES, array_dtype
from tilewright.runtime.feeds import Array

_DEFAULT_STREAMS = (None, 0, 1)
"""Of the DLPack protocol: the consumer uses the default stream, which waits for ours by itself."""
_DO_NOT_WAIT = -1


class DeviceArray:
    """A C-contiguous array in device memory; `torch.from_dlpack(array)` uses it without a copy.

    dtype: name of an element type, as in the manifest. bound: the caller's own array, of which this
    is a view. `owner` keeps the memory.
    """

    def __init__(
        self,
        device: Device,
        owner: object,
        address: int,
        dtype: str,
        shape: tuple[int, ...],
        bound: Any = None,
    ) -> None:
        self.device, self.owner, self.address = device, owner, address
        self.dtype, self.shape, self.bound = dtype, shape, bound

    @property
    def bytes(self) -> int:
        """Of all elements."""
        return prod(self.shape) * ELEMENT_TYPES[self.dtype].bytes

    def overlaps(self, other: DeviceArray) -> bool:
        """Whether both have a byte in common."""
        begin = max(self.address, other.address)
        return begin < min(self.address + self.bytes, other.address + other.bytes)

    def view(self) -> dlpack.View:
        """It, as what others hand over."""
        return dlpack.View(
            self, self.owner, self.address, self.device.ordinal, (self.dtype,), self.shape, None
        )

    def first(self, shape: tuple[int, ...]) -> DeviceArray:
        """Its first elements in another shape."""
        return DeviceArray(self.device, self.owner, self.address, self.dtype, shape)

    def numpy(self) -> Array:
        """A copy in host memory, after all work that was queued on the device."""
        found = np.empty(self.shape, array_dtype(self.dtype))
        if found.nbytes:
            with reported("a device array"), self.device.active():
                self.device.driver("cuCtxSynchronize")
                address = found.__array_interface__["data"][0]
                self.device.driver("cuMemcpyDtoH", address, self.address, found.nbytes)
        return found

    def __dlpack_device__(self) -> tuple[int, int]:
        return dlpack.CUDA_DEVICE, self.device.ordinal

    def __dlpack__(self, *, stream: int | None = None, **options: Any) -> Any:
        """A capsule of version 0, which all consumers take. Runs in other streams than the default
        one are waited for."""
        if stream not in (*_DEFAULT_STREAMS, _DO_NOT_WAIT):
            with reported("a device array"), self.device.active():
                self.device.driver("cuCtxSynchronize")
        self._show()
        return dlpack.capsule(self.owner, self.address, self.device.ordinal, self.dtype, self.shape)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        self._show()
        storage = np.dtype(ELEMENT_TYPES[self.dtype].storage)
        return {
            "shape": self.shape,
            "typestr": storage.str,
            "data": (self.address, False),
            "strides": None,
            "version": 3,
            "stream": 1,
        }

    def _show(self) -> None:
        if isinstance(self.owner, Lent):
            self.owner.show()

    def __repr__(self) -> str:
        return f"DeviceArray(shape={self.shape}, dtype={self.dtype}, device={self.device.ordinal})"

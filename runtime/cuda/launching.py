"""A launch of the program as the driver takes it: parameters, tensor maps and configurations."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Sequence
from typing import Any

from tilewright.runtime.cuda.driver import Driver
from tilewright.runtime.cuda.model import DeviceModel, Function
from tilewright.runtime.cuda.program import MAP_TYPES, WORKSPACE, Entry, Launch, TensorMap
from tilewright.runtime.cuda.sizes import compiled

_MAP_BYTES = 128
_MAP_ALIGN = 64
_ALIGN = 256
"""What formulas see of an address is the rest of its division by this."""
_ATTRIBUTE_CLUSTER, _ATTRIBUTE_OVERLAPS = 4, 6
"""Numbers of CUlaunchAttributeID: cluster dimension, programmatic stream serialization."""

_SWIZZLES = {0: 0, 32: 1, 64: 2, 128: 3}
_PROMOTION = 3
"""CU_TENSOR_MAP_L2_PROMOTION_L2_256B"""


class _EntryLaunch:
    """One entry: its configuration, and the parameters that point into its buffer."""

    def __init__(
        self, driver: Driver, entry: Entry, function: Function, operands: int, dims: int
    ) -> None:
        self.entry, self.function = entry, function
        maps = len(entry.maps)
        words = operands + dims + 3  # units, workspace, status
        self.format = struct.Struct(f"={operands}Q{dims + 1}q2Q")
        self.storage = ctypes.create_string_buffer(maps * _MAP_BYTES + words * 8 + _MAP_ALIGN)
        start = -ctypes.addressof(self.storage) % _MAP_ALIGN
        self.maps_at = start
        self.words_at = start + maps * _MAP_BYTES
        base = ctypes.addressof(self.storage)
        places = [base + start + i * _MAP_BYTES for i in range(maps)]
        places += [base + self.words_at + i * 8 for i in range(words)]
        self.pointers = (ctypes.c_void_p * len(places))(*places)
        self.parameters = ctypes.addressof(self.pointers)
        self.blocks = 0
        self.formulas = 4 + sum(2 * len(tensor.dims) for tensor in entry.maps)
        """How many formulas are its own."""
        self.config = _configuration(driver.module, entry)

    def store_map(self, index: int, encoded: bytes) -> None:
        at = self.maps_at + index * _MAP_BYTES
        ctypes.memmove(ctypes.addressof(self.storage) + at, encoded, _MAP_BYTES)


def _configuration(module: Any, entry: Entry) -> Any:
    config = module.CUlaunchConfig()
    config.blockDimX, config.blockDimY, config.blockDimZ = entry.block
    attributes = []
    if entry.cluster != (1, 1, 1):
        value = module.CUlaunchAttributeValue()
        value.clusterDim.x, value.clusterDim.y, value.clusterDim.z = entry.cluster
        attributes.append(_attribute(module, _ATTRIBUTE_CLUSTER, value))
    if entry.overlaps:
        value = module.CUlaunchAttributeValue()
        value.programmaticStreamSerializationAllowed = 1
        attributes.append(_attribute(module, _ATTRIBUTE_OVERLAPS, value))
    config.attrs = attributes
    config.numAttrs = len(attributes)
    return config


def _attribute(module: Any, number: int, value: Any) -> Any:
    attribute = module.CUlaunchAttribute()
    attribute.id = module.CUlaunchAttributeID(number)
    attribute.value = value
    return attribute


class LaunchState:
    """A launch with its last parameters: what has not changed since then is not made again.

    `bases`: positions of the operands among the frame's base addresses. `number`: its row of a
    profile. Not thread-safe.
    """

    def __init__(
        self,
        model: DeviceModel,
        launch: Launch,
        number: int,
        bases: Sequence[int],
    ) -> None:
        self.launch, self.number, self.bases = launch, number, tuple(bases)
        self.model = model
        program = model.program
        kernel = program.kernels[launch.kernel]
        dims = len(launch.dims)
        self.name = kernel.name
        self.counts = launch.counts
        self._sizes = compiled(
            [*launch.dims, launch.units, *(place.offset for place in launch.operands)],
            program.slots,
        )
        self._formulas = model.formulas(launch.kernel, dims, len(launch.operands))
        self._aligns = kernel.aligns
        self._sms = model.device.multiprocessors
        self._dims = dims
        operands = len(launch.operands) + len(launch.counts)
        driver = model.device.driver
        self._entries = [
            _EntryLaunch(driver, entry, function, operands, dims)
            for entry, function in zip(kernel.entries, model.functions[launch.kernel], strict=True)
        ]
        self._known: tuple[int, ...] = ()
        self._values: tuple[int, ...] = ()
        self._words: tuple[int, ...] = ()
        self._call = driver.module.cuLaunchKernelEx

    def prepare(self, values: Sequence[int], addresses: Sequence[int]) -> int:
        """Take the values of symbols and base addresses; the workspace that the launch needs."""
        sizes = self._sizes(values)
        dims = self._dims
        offsets = sizes[dims + 1 :]
        pairs = zip(self.bases, offsets, strict=True)
        self._operands = tuple([addresses[base] + offset for base, offset in pairs])
        self._arguments = sizes[: dims + 1]
        known = self._arguments
        if self._aligns:
            known += tuple([address % _ALIGN for address in self._operands])
        if known != self._known:
            self._known = ()
            self._values = self._formulas((*self._arguments, self._sms, *known[dims + 1 :]))
            self._configure()
            self._known = known
            self._words = ()
        return self._values[0]

    def _configure(self) -> None:
        values, at = self._values, 1
        for state in self._entries:
            config = state.config
            x, y, z, shared = values[at : at + 4]
            state.blocks = max(x, 0) * max(y, 0) * max(z, 0)
            if state.blocks:
                config.gridDimX, config.gridDimY, config.gridDimZ = x, y, z
                config.sharedMemBytes = shared
                state.function.allow_shared(shared)
            at += state.formulas

    def store(self, counts: Sequence[int], workspace: int, status: int) -> None:
        """Write the parameters of a prepared launch. counts: addresses of the values it counts."""
        words = (*self._operands, *counts, *self._arguments, workspace, status)
        if words == self._words:
            return
        at = 1
        for state in self._entries:
            state.format.pack_into(state.storage, state.words_at, *words)
            at += 4
            for index, tensor in enumerate(state.entry.maps):
                if state.blocks:
                    state.store_map(index, self._encode(tensor, at, workspace))
                at += 2 * len(tensor.dims)
        self._words = words

    def _encode(self, tensor: TensorMap, at: int, workspace: int) -> bytes:
        """The 128 bytes of a map; zeros where it has nothing to copy."""
        rank = len(tensor.dims)
        dims = self._values[at : at + rank]
        strides = self._values[at + rank : at + 2 * rank - 1]
        offset = self._values[at + 2 * rank - 1]
        if min(dims) <= 0:
            return bytes(_MAP_BYTES)
        mapped = tensor.operand
        base = workspace if mapped == WORKSPACE else self._operands[mapped]
        driver = self.model.device.driver
        module = driver.module
        wide = module.cuuint64_t
        narrow = module.cuuint32_t
        encoded = driver(
            "cuTensorMapEncodeTiled",
            module.CUtensorMapDataType(MAP_TYPES[tensor.dtype]),
            rank,
            base + offset,
            [wide(size) for size in dims],
            [wide(size) for size in strides],
            [narrow(size) for size in tensor.box],
            [narrow(1)] * rank,
            module.CUtensorMapInterleave(0),
            module.CUtensorMapSwizzle(_SWIZZLES[tensor.swizzle]),
            module.CUtensorMapL2promotion(_PROMOTION),
            module.CUtensorMapFloatOOBfill(0),
        )
        return ctypes.string_at(int(encoded.getPtr()), _MAP_BYTES)

    def launch_on(self, stream: Any) -> None:
        """Queue the stored launch."""
        for state in self._entries:
            if state.blocks:
                config = state.config
                config.hStream = stream
                status = self._call(config, state.function.handle, state.parameters, 0)[0]
                if status:
                    raise self.model.device.driver.failure(f"launch of {self.name}", status)

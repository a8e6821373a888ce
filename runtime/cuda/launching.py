"""Launches and copies that follow each other, as the driver takes them.

Of all of them together, one compiled function makes the sizes, formulas and addresses from the
values of symbols and the base addresses, and one call writes the parameters: a decoding loop comes
here with another size at every step.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

from tilewright.runtime.cuda.driver import Driver
from tilewright.runtime.cuda.model import DeviceModel, Function
from tilewright.runtime.cuda.program import (
    MAP_TYPES,
    WORKSPACE,
    Copy,
    Entry,
    Launch,
    Place,
    TensorMap,
    formula_names,
)
from tilewright.runtime.cuda.sizes import Formulas

_MAP_BYTES = 128
_MAP_ALIGN = 64
_ALIGN = 256
"""What formulas see of an address is the rest of its division by this."""
_ATTRIBUTE_CLUSTER, _ATTRIBUTE_OVERLAPS = 4, 6
"""Numbers of CUlaunchAttributeID: cluster dimension, programmatic stream serialization."""

_SWIZZLES = {0: 0, 32: 1, 64: 2, 128: 3}
_PROMOTION = 3
"""CU_TENSOR_MAP_L2_PROMOTION_L2_256B"""

_VALUES, _ADDRESSES = 0, 1
"""Arguments of the compiled function."""

Call = tuple[Callable[..., Any], tuple[Any, ...], str]
"""A function of the driver with its arguments, and what it does."""


class Timer(Protocol):
    """`running.Timer`, which says more."""

    def event(self, stream: Any) -> Any: ...
    def add(self, number: int, begin: Any, end: Any) -> None: ...


class _Map:
    """A tensor map: where it is written, and of which results it is made."""

    def __init__(self, tensor: TensorMap, at: int, first: int, base: int | None) -> None:
        self.tensor, self.at, self.first, self.base = tensor, at, first, base
        self.known: tuple[int, ...] | None = None


class _Entry:
    """A function of a launch: its configuration and the addresses of its parameters."""

    def __init__(self, config: Any, function: Function, maps: list[_Map], call: Call) -> None:
        self.config, self.function, self.maps, self.call = config, function, maps, call
        self.blocks = 0


class _Grid:
    """Configurations that have the same four formulas: grid and shared memory."""

    def __init__(self, first: int) -> None:
        self.first = first
        self.entries: list[_Entry] = []
        self.known: tuple[int, ...] = ()


class Straight:
    """Launches and copies in order, with their last parameters: what has not changed since then is
    not made again.

    steps: with the number of each launch (its row of a profile) and the addresses that it writes
    to: of the values that it counts, and its status. Not thread-safe.
    """

    def __init__(
        self,
        model: DeviceModel,
        steps: Sequence[tuple[Launch | Copy, int | None, Sequence[int]]],
        base: Callable[[Place], int],
    ) -> None:
        self._model, self._base = model, base
        self._driver = model.device.driver
        self._make = made = Formulas(2)
        slots = model.program.slots
        self._slots = {name: made.argument(_VALUES, slot) for name, slot in slots.items()}
        plans = [
            self._plan(step, fixed) if isinstance(step, Launch) else self._copy(step)
            for step, _, fixed in steps
        ]
        self._finish(plans, steps)

    # What is needed of a step, before places are known -----------------------------------------

    def _address(self, place: Place) -> int:
        base = self._make.argument(_ADDRESSES, self._base(place))
        return self._make.operation("+", base, self._make.size(place.offset, self._slots))

    def _copy(self, step: Copy) -> tuple[int, ...]:
        size = self._make.size(step.bytes, self._slots)
        return size, self._address(step.source), self._address(step.target)

    def _plan(self, step: Launch, fixed: Sequence[int]) -> tuple[list[int], list[Any], list[int]]:
        """Parts of its formulas, what its parameters are, and addresses of its operands."""
        made = self._make
        kernel = self._model.program.kernels[step.kernel]
        operands = [self._address(place) for place in step.operands]
        given = [made.size(size, self._slots) for size in (*step.dims, step.units)]
        aligns = made.constant(_ALIGN)
        rests = [made.operation("%", address, aligns) for address in operands]
        sms = made.constant(self._model.device.multiprocessors)
        names = formula_names(len(step.dims), len(operands))
        known = dict(zip(names, (*given, sms, *rests), strict=True))
        formulas = [made.size(formula, known) for formula in kernel.formulas]
        *counts, status = fixed
        words = [*operands, *(("fixed", c) for c in counts), *given, "workspace", ("fixed", status)]
        return formulas, words, operands

    # Places ------------------------------------------------------------------------------------

    def _finish(
        self, plans: Sequence[Any], steps: Sequence[tuple[Launch | Copy, int | None, Sequence[int]]]
    ) -> None:
        made = self._make
        launches = [
            (plan, step, number)
            for plan, (step, number, _) in zip(plans, steps, strict=True)
            if isinstance(step, Launch)
        ]
        needed = made.constant(0)
        for (formulas, _, _), _, _ in launches:
            needed = made.operation("max", needed, formulas[0])
        words = [word for (_, words, _), _, _ in launches for word in words]
        parts = list(dict.fromkeys(word for word in words if isinstance(word, int)))
        fixed = list(dict.fromkeys(word for word in words if isinstance(word, tuple)))
        self._cells = {word: i for i, word in enumerate([*parts, "workspace", *fixed])}
        results = [needed, *parts]
        self._words = slice(1, len(results))
        entries = [self._model.program.kernels[step.kernel].entries for _, step, _ in launches]
        maps = sum(len(entry.maps) for own in entries for entry in own)
        size = maps * _MAP_BYTES + len(self._cells) * 8 + _MAP_ALIGN
        self._storage = ctypes.create_string_buffer(size)
        self._maps_at = -ctypes.addressof(self._storage) % _MAP_ALIGN
        self._cells_at = self._maps_at + maps * _MAP_BYTES
        self._format = struct.Struct(f"={len(parts) + 1}q")
        at = self._cells_at + self._format.size
        struct.pack_into(f"={len(fixed)}q", self._storage, at, *(address for _, address in fixed))
        self._kept: list[Any] = []
        self._grids: dict[tuple[int, ...], _Grid] = {}
        self._maps = 0
        self._order: list[tuple[list[_Entry] | tuple[int, ...], int | None]] = []
        for plan, (step, number, _) in zip(plans, steps, strict=True):
            if isinstance(step, Launch):
                self._order.append((self._entries(step, plan, results), number))
            else:
                self._order.append((tuple(_placed(results, part) for part in plan), None))
        self._evaluate = made.function(results)
        self._found: tuple[int, ...] = ()
        self._stored: tuple[tuple[int, ...], int] | None = None
        self._queued: list[Call] | None = None
        self._stream: Any = None
        self._copies = any(isinstance(one, tuple) for one, _ in self._order)
        self._mapped = [
            e for own, _ in self._order for e in own if isinstance(e, _Entry) and e.maps
        ]

    def _entries(self, step: Launch, plan: Any, results: list[int]) -> list[_Entry]:
        formulas, words, operands = plan
        kernel = self._model.program.kernels[step.kernel]
        begin = ctypes.addressof(self._storage) + self._cells_at
        cells = [begin + 8 * self._cells[word] for word in words]
        call, what = self._driver.module.cuLaunchKernelEx, f"launch of {kernel.name}"
        found, at = [], 1
        for entry, function in zip(kernel.entries, self._model.functions[step.kernel], strict=True):
            shape = tuple(formulas[at : at + 4])
            at += 4
            maps = []
            for tensor in entry.maps:
                count = 2 * len(tensor.dims)
                base = None
                if tensor.operand != WORKSPACE:
                    base = _placed(results, operands[tensor.operand])
                first = len(results)
                results += formulas[at : at + count]
                maps.append(_Map(tensor, self._maps_at + self._maps * _MAP_BYTES, first, base))
                self._maps += 1
                at += count
            places = [ctypes.addressof(self._storage) + one.at for one in maps] + cells
            pointers = (ctypes.c_void_p * len(places))(*places)
            self._kept.append(pointers)
            config = _configuration(self._driver.module, entry)
            arguments = (config, function.handle, ctypes.addressof(pointers), 0)
            made = _Entry(config, function, maps, (call, arguments, what))
            if shape not in self._grids:
                self._grids[shape] = _Grid(len(results))
                results += shape
            self._grids[shape].entries.append(made)
            found.append(made)
        return found

    # Runs --------------------------------------------------------------------------------------

    def prepare(self, values: Sequence[int], addresses: Sequence[int]) -> int:
        """Take the values of symbols and base addresses; the workspace that the launches need."""
        self._found = self._evaluate(values, addresses)
        return self._found[0]

    def store(self, workspace: int) -> None:
        """Write the parameters of all prepared launches."""
        found = self._found
        if self._stored is not None and self._stored == (found, workspace):
            return
        self._stored = None
        self._format.pack_into(self._storage, self._cells_at, *found[self._words], workspace)
        for grid in self._grids.values():
            shape = found[grid.first : grid.first + 4]
            if shape != grid.known:
                self._resize(grid, shape)
        for entry in self._mapped:
            for one in entry.maps if entry.blocks else ():
                self._store_map(one, found, workspace)
        if self._copies:
            self._queued = None
        self._stored = found, workspace

    def _resize(self, grid: _Grid, shape: tuple[int, ...]) -> None:
        x, y, z, shared = shape
        blocks = max(x, 0) * max(y, 0) * max(z, 0)
        grid.known = ()
        for entry in grid.entries:
            if blocks:
                config = entry.config
                config.gridDimX, config.gridDimY, config.gridDimZ = x, y, z
                config.sharedMemBytes = shared
                entry.function.allow_shared(shared)
            if bool(blocks) != bool(entry.blocks):
                self._queued = None
            entry.blocks = blocks
        grid.known = shape

    def _store_map(self, one: _Map, found: tuple[int, ...], workspace: int) -> None:
        base = workspace if one.base is None else found[one.base]
        known = (base, *found[one.first : one.first + 2 * len(one.tensor.dims)])
        if known != one.known:
            encoded = _encoded(self._driver, one.tensor, known)
            ctypes.memmove(ctypes.addressof(self._storage) + one.at, encoded, _MAP_BYTES)
            one.known = known

    def queue(self, stream: Any) -> None:
        """Queue the stored launches and copies."""
        if self._queued is None or stream is not self._stream:
            self._queued = [call for _, calls in self._calls(stream) for call in calls]
        for call, arguments, what in self._queued:
            status = call(*arguments)[0]
            if status:
                raise self._driver.failure(what, status)

    def queue_timed(self, stream: Any, timer: Timer) -> None:
        """As `queue`, with events around each launch."""
        self._queued = None
        for number, calls in self._calls(stream):
            begin = None if number is None else timer.event(stream)
            for call, arguments, what in calls:
                status = call(*arguments)[0]
                if status:
                    raise self._driver.failure(what, status)
            if number is not None:
                timer.add(number, begin, timer.event(stream))

    def _calls(self, stream: Any) -> Iterator[tuple[int | None, list[Call]]]:
        """Of every step, its number and what is called."""
        self._stream = stream
        copy = self._driver.module.cuMemcpyDtoDAsync
        for step, number in self._order:
            if isinstance(step, tuple):
                size, source, target = (self._found[i] for i in step)
                calls = [(copy, (target, source, size, stream), "cuMemcpyDtoDAsync")]
                yield None, calls if size > 0 and source != target else []
                continue
            used = [entry for entry in step if entry.blocks]
            for entry in used:
                entry.config.hStream = stream
            yield number, [entry.call for entry in used]


def _placed(results: list[int], part: int) -> int:
    """Where a part is among the results."""
    results.append(part)
    return len(results) - 1


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


def _encoded(driver: Driver, tensor: TensorMap, known: Sequence[int]) -> bytes:
    """The 128 bytes of a map; zeros where it has nothing to copy. known: the base address, sizes,
    strides and the offset."""
    rank = len(tensor.dims)
    base, dims, strides = known[0], known[1 : rank + 1], known[rank + 1 : 2 * rank]
    if min(dims) <= 0:
        return bytes(_MAP_BYTES)
    module = driver.module
    wide, narrow = module.cuuint64_t, module.cuuint32_t
    encoded = driver(
        "cuTensorMapEncodeTiled",
        module.CUtensorMapDataType(MAP_TYPES[tensor.dtype]),
        rank,
        base + known[-1],
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

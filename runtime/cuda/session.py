"""A CUDA variant as sessions use it, with the methods of `runtime.native.NativeSession`."""

from __future__ import annotations

import ctypes
import os
import weakref
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from tilewright.runtime.cuda.device import Memory, Pinned, grown, open_device
from tilewright.runtime.cuda.driver import Failure, error_of
from tilewright.runtime.cuda.graphs import Graphs
from tilewright.runtime.cuda.model import DeviceModel, open_model
from tilewright.runtime.cuda.resolving import Resolver, Shape
from tilewright.runtime.cuda.running import Runner, Timer
from tilewright.runtime.cuda.spares import Spares
from tilewright.runtime.dtypes import ELEMENT_TYPES
from tilewright.runtime.errors import ExecutionError, TilewrightError
from tilewright.runtime.loader import ArtifactFile
from tilewright.runtime.manifest import Manifest, Variant

_ALIGN = 256


@dataclass(frozen=True)
class _Transfer:
    """A tensor of the host beside its place in the staging memory. `position` of the tensor."""

    position: int
    staged: int
    bytes: int


@dataclass
class _Plan:
    """A run with fixed sizes: what is copied, and the graph once it was captured."""

    key: Hashable
    inputs: tuple[_Transfer, ...]
    outputs: tuple[_Transfer, ...]
    input_bytes: int
    output_bytes: int
    shapes: list[Shape]
    graph: Any | None = None


class CudaSession:
    """Runs a `DeviceModel`. Not thread-safe: its owner holds a lock.

    Inputs and outputs are addresses of host memory, which go through pinned staging memory, or of
    device memory, which kernels use in place.
    """

    def __init__(self, model: DeviceModel, manifest: Manifest) -> None:
        self.model, self.where, self.device = model, model.where, model.device
        inputs = [ELEMENT_TYPES[tensor.dtype] for tensor in manifest.inputs]
        outputs = [ELEMENT_TYPES[tensor.dtype] for tensor in manifest.outputs]
        self._elements = [(one.bytes, one.storage.startswith("int")) for one in inputs]
        self._output_bytes = [one.bytes for one in outputs]
        self.owner: object = None
        """Who set the inputs last."""
        self._resolver = Resolver(model.where, model.program)
        count = len(inputs)
        self._inputs = [0] * count
        self._shapes: list[Shape] = [()] * count
        self._on_device = [False] * count
        self._results = [0] * len(outputs)
        self._results_on_device = [False] * len(outputs)
        self._plan: _Plan | None = None
        self._queued: Any = None
        entered = self._enter()
        try:
            driver = self.device.driver
            self.stream = driver("cuStreamCreate", 0)
            self._event = driver("cuEventCreate", 2)
            self._graphs = Graphs(self.device)
            self._runner = Runner(model)
            self._runner.moving = self._graphs.clear
            self._arena = Memory(self.device, 0)
            self.spares = Spares(self.device)
            """Memory of outputs that stay on the device."""
            self._staged_in, self._staged_out = Pinned(self.device, 0), Pinned(self.device, 0)
            self._device_in, self._device_out = Memory(self.device, 0), Memory(self.device, 0)
            self._upload = driver.checked("cuMemcpyHtoDAsync")
            self._download = driver.checked("cuMemcpyDtoHAsync")
            self._launch = driver.checked("cuGraphLaunch")
            self._synchronize = driver.checked("cuStreamSynchronize")
        except Failure as failure:
            raise self._report(failure) from None
        finally:
            self._leave(entered)
        self.close = weakref.finalize(
            self,
            _close,
            self._runner,
            self._graphs,
            self.spares,
            self.stream,
            self._event,
            os.getpid(),
        )
        self.close.atexit = False

    # Inputs ------------------------------------------------------------------------------

    def set_input(self, index: int, address: int, shape: Shape, on_device: bool = False) -> None:
        """Point input `index` to memory of the caller."""
        self._inputs[index] = address
        self._shapes[index] = tuple(shape)
        self._on_device[index] = on_device
        self._plan = self.owner = None

    def shapes(self) -> list[Shape]:
        """Shapes (upper bounds where they depend on data) of the outputs for the set inputs."""
        entered = self._enter()
        try:
            self._resolver.resolve(self._runner.values, self._shapes, self._element)
        except Failure as failure:
            raise self._report(failure) from None
        finally:
            self._leave(entered)
        return self._resolver.upper_shapes(self._runner.values)

    def _element(self, index: int, position: int) -> int | None:
        size, signed = self._elements[index]
        if position >= prod(self._shapes[index]):
            return None
        address = self._inputs[index] + position * size
        if not self._on_device[index]:
            return int.from_bytes(ctypes.string_at(address, size), "little", signed=signed)
        found = ctypes.create_string_buffer(size)
        # A run in a stream of the caller may still write it.
        self._settle()
        self.device.driver("cuMemcpyDtoH", ctypes.addressof(found), address, size)
        return int.from_bytes(found.raw, "little", signed=signed)

    # Runs --------------------------------------------------------------------------------

    def run(
        self,
        outputs: Sequence[int],
        on_device: Sequence[bool] = (),
        stream: int | None = None,
    ) -> list[Shape]:
        """Run into the buffers at addresses `outputs`, each of at least the `shapes` size; the
        final shapes. `shapes` comes before, after the inputs are set. stream: as of `repeat`."""
        entered = self._enter()
        try:
            self._results = list(outputs)
            self._results_on_device = list(on_device) or [False] * len(outputs)
            plan = self._plan = self._planned()
            return self._execute(plan, stream)
        except Failure as failure:
            raise self._report(failure) from None
        finally:
            self._leave(entered)

    def run_again(self, inputs: Sequence[int], outputs: Sequence[int]) -> None:
        """Run with shapes as they were at the last `run`, host arrays at these addresses."""
        self._inputs[:] = inputs
        self._results[:] = outputs
        self.repeat(None)

    def repeat(self, stream: int | None) -> list[Shape]:
        """The last `run` once more, on what its arrays hold now; the final shapes.

        stream: a stream of the caller, in which the run is queued behind what is there. It is not
        waited for, unless arrays of the host take part or data decide on sizes; a failure is then
        raised by the next run. None: in the session's own, and the run has ended afterwards.
        """
        entered = self._enter()
        try:
            plan = self._plan
            if plan is None or self._resolver.reads_values:
                self._resolver.resolve(self._runner.values, self._shapes, self._element)
                plan = self._plan = self._planned()
            return self._execute(plan, stream)
        except Failure as failure:
            raise self._report(failure) from None
        finally:
            self._leave(entered)

    def _planned(self) -> _Plan:
        """Places for everything; the values of symbols are known."""
        runner = self._runner
        values = runner.values
        arena, *buffers = self._resolver.memory(values)
        shapes = self._resolver.upper_shapes(values)
        inputs, input_bytes = _staged(
            [
                None if there else prod(shape) * size
                for there, shape, (size, _) in zip(
                    self._on_device, self._shapes, self._elements, strict=True
                )
            ]
        )
        outputs, output_bytes = _staged(
            [
                None if there else prod(shape) * size
                for there, shape, size in zip(
                    self._results_on_device, shapes, self._output_bytes, strict=True
                )
            ]
        )
        self._reserve(arena, input_bytes, output_bytes)
        addresses = runner.addresses
        base = self._arena.address
        addresses[: len(buffers)] = [base + offset for offset in buffers]
        places = list(self._inputs)
        for one in inputs:
            places[one.position] = self._device_in.address + one.staged
        results = list(self._results)
        for one in outputs:
            results[one.position] = self._device_out.address + one.staged
        addresses[runner.inputs_at :] = places + results
        key = (tuple(values), tuple(places), tuple(results))
        graph = self._graphs.find(key) if self._runner.program.fixed else None
        return _Plan(key, inputs, outputs, input_bytes, output_bytes, shapes, graph)

    def _reserve(self, arena: int, inputs: int, outputs: int) -> None:
        """Grow what is too small; graphs then have wrong addresses."""
        wanted = (("_arena", arena), ("_device_in", inputs), ("_device_out", outputs))
        if any(getattr(self, name).bytes < size for name, size in wanted):
            self._settle()
            self._graphs.clear()
            self.spares.clear()
            for name, size in wanted:
                held: Memory = getattr(self, name)
                if held.bytes < size:
                    held.free()
                    setattr(self, name, Memory(self.device, 0))
                    setattr(self, name, grown(self.device, held.bytes, size))
        if self._staged_in.bytes < inputs or self._staged_out.bytes < outputs:
            self._settle()
            self._graphs.clear()
            self._staged_in = self._staged_in.at_least(inputs)
            self._staged_out = self._staged_out.at_least(outputs)

    def _execute(self, plan: _Plan, stream: int | None) -> list[Shape]:
        runner = self._runner
        used = self.stream if stream is None else stream
        self._order(used)
        staged = self._staged_in.address
        for one in plan.inputs:
            ctypes.memmove(staged + one.staged, self._inputs[one.position], one.bytes)
        if plan.graph is None and runner.timer is None and runner.program.fixed:
            self._capture(plan)
        if plan.graph is not None and runner.timer is None:
            self._launch(plan.graph, used)
        else:
            self._queue(plan, used)
        final = plan.shapes
        if not runner.program.fixed:
            final = self._resolver.final_shapes(runner.values)
        if stream is not None and not plan.outputs and not plan.inputs:
            self.device.driver("cuEventRecord", self._event, used)
            self._queued = stream
            return final
        self._synchronize(used)
        self._check()
        staged = self._staged_out.address
        for one in plan.outputs:
            ctypes.memmove(self._results[one.position], staged + one.staged, one.bytes)
        if runner.timer is not None:
            runner.timer.collect()
        return final

    def _capture(self, plan: _Plan) -> None:
        """Capture the run if it is worth it: it happened before."""
        if self._graphs.again(plan.key):
            self._runner.prepare()
            plan.graph = self._graphs.capture(plan.key, lambda stream: self._queue(plan, stream))

    def _queue(self, plan: _Plan, stream: Any) -> None:
        if plan.input_bytes:
            staged = self._staged_in.address
            self._upload(self._device_in.address, staged, plan.input_bytes, stream)
        self._runner.run(stream)
        if plan.output_bytes:
            staged = self._staged_out.address
            self._download(staged, self._device_out.address, plan.output_bytes, stream)

    def _order(self, stream: Any) -> None:
        """Let a run in `stream` begin after the one before it, which was not waited for."""
        if self._queued is not None and self._queued != stream:
            self.device.driver("cuStreamWaitEvent", stream, self._event, 0)
            self._queued = None

    def _settle(self) -> None:
        """Wait for the last run."""
        if self._queued is not None:
            self.device.driver("cuEventSynchronize", self._event)
            self._queued = None
        self._synchronize(self.stream)

    def synchronize(self) -> None:
        """Wait for runs in the caller's streams; raises what they failed with."""
        entered = self._enter()
        try:
            self._settle()
            self._check()
        except Failure as failure:
            raise self._report(failure) from None
        finally:
            self._leave(entered)

    def _check(self) -> None:
        code = self._runner.failed()
        if code:
            raise self._resolver.error(code)

    # Everything else ------------------------------------------------------------------------

    def arena_bytes(self) -> int:
        """Bytes of scratch memory that the session holds on the device."""
        return self._arena.bytes + self._runner.workspace.bytes

    def start_profile(self, launches: int) -> None:
        """Time each launch from now on: runs are then launched one by one."""
        self._runner.timer = Timer(self.model, launches)

    def stop_profile(self) -> tuple[list[int], list[int]]:
        """Nanoseconds and calls of each launch since `start_profile`."""
        timer = self._runner.timer
        assert timer is not None, "start_profile comes first"
        self._runner.timer = None
        with self.device.active():
            timer.close()
        return timer.nanoseconds, timer.calls

    def _enter(self) -> bool:
        if self.device.lost:
            raise ExecutionError(
                self.where,
                "the process has lost its CUDA context",
                f"an earlier run ended with {self.device.lost}",
                "start a new process; nothing that uses the GPU works in this one",
            )
        return self.device.enter()

    def _leave(self, entered: bool) -> None:
        if entered:
            self.device.leave()

    def _report(self, failure: Failure) -> TilewrightError:
        self._plan = None
        if failure.lost:
            self.device.lost = failure.name
        return error_of(self.where, failure)


def open_session(file: ArtifactFile, variant: Variant) -> CudaSession:
    """A session of a variant on this thread's device. Raises as `open_device`, `DeviceModel`."""
    device = open_device(file.where)
    return CudaSession(open_model(device, file, variant), file.manifest)


def _staged(sizes: Sequence[int | None]) -> tuple[tuple[_Transfer, ...], int]:
    """Places for tensors of these sizes (None: not staged) one after the other, and their end."""
    found, at = [], 0
    for position, size in enumerate(sizes):
        if size is not None:
            found.append(_Transfer(position, at, size))
            at += -(-size // _ALIGN) * _ALIGN
    return tuple(found), at


def _close(
    runner: Runner, graphs: Graphs, spares: Spares, stream: Any, event: Any, owner: int
) -> None:
    # A forked child has no context; a lost one has nothing to give back.
    device = runner.model.device
    if os.getpid() == owner and not device.lost:
        with device.active():
            module = device.driver.module
            module.cuStreamSynchronize(stream)
            module.cuEventSynchronize(event)
            graphs.close()
            spares.close()
            module.cuEventDestroy(event)
            module.cuStreamDestroy(stream)
            runner.release()

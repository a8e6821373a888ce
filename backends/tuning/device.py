"""Times of candidates on this machine's GPU: graphs of launches, in turn, between events."""

from __future__ import annotations

import ctypes
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from tilewright.backends.cuda import prelude, toolchain
from tilewright.backends.cuda.kernel import CudaKernel
from tilewright.backends.kernels.candidates import Candidate
from tilewright.backends.kernels.family import KernelFamily, evaluate
from tilewright.backends.target import Target
from tilewright.backends.tuning.values import moderate
from tilewright.runtime.cuda.device import Device, Memory, open_device
from tilewright.runtime.cuda.graphs import Graphs
from tilewright.runtime.cuda.launching import Straight
from tilewright.runtime.cuda.model import Function
from tilewright.runtime.cuda.program import Entry, Kernel, Launch, Place, TensorMap

COLD_BYTES = 192 << 20
"""Packed weights are read from copies in turn that make up this: more than any L2 holds."""

LAUNCHES = 32
"""Of a graph, at most: one alone would be shorter than what events resolve."""

LEAST_ROUNDS = 5


def kernel_of(family: KernelFamily, spec: Any, target: Target, name: str) -> CudaKernel:
    """Text and launch of a spec."""
    assert family.cuda is not None, "families that serve a GPU have kernels for it"
    return family.cuda(spec, target, name)


def cubin(family: KernelFamily, spec: Any, number: int, target: Target) -> bytes:
    """Machine code of `candidateNUMBER` behind its length; `load` takes those of all candidates,
    one after the other."""
    name = f"candidate{number}"
    kernel = kernel_of(family, spec, target, name)
    if kernel.language == "cuda":
        _, made = toolchain.to_both(prelude.expand(kernel.source), name, target)
    else:
        made = toolchain.to_cubin(kernel.source, name, target)
    return struct.pack("<Q", len(made.code)) + made.code


@dataclass
class _Program:
    kernels: list[Kernel]
    slots: dict[str, int]


@dataclass
class Loaded:
    """Candidates on the device, in order, as `Straight` takes a model."""

    candidates: tuple[Candidate, ...]
    device: Device
    program: _Program
    functions: list[list[Function]]


def load(candidates: Sequence[Candidate], target: Target, code: bytes) -> Loaded:
    """What `cubin` gave, on this thread's device. Raises Failure and TargetError."""
    device = open_device(target.name)
    program, functions, at = _Program([], {}), [], 0
    with device.active():
        for i, candidate in enumerate(candidates):
            name = f"candidate{i}"
            (size,) = struct.unpack_from("<Q", code, at)
            module = device.driver("cuModuleLoadData", code[at + 8 : at + 8 + size])
            at += 8 + size
            kernel = _described(kernel_of(candidate.family, candidate.spec, target, name), name, i)
            own = []
            for entry in kernel.entries:
                handle = device.driver(
                    "cuModuleGetFunction", module, (name + entry.suffix).encode()
                )
                own.append(Function(device, handle))
                own[-1].allow_cluster(entry.cluster[0] * entry.cluster[1] * entry.cluster[2])
            program.kernels.append(kernel)
            functions.append(own)
    return Loaded(tuple(candidates), device, program, functions)


def _described(kernel: CudaKernel, name: str, index: int) -> Kernel:
    entries = tuple(
        Entry(
            e.suffix,
            e.grid,
            e.block,
            e.shared,
            e.cluster,
            e.overlaps,
            tuple(
                TensorMap(m.operand, m.dtype, m.dims, m.strides, m.box, m.swizzle, m.offset)
                for m in e.maps
            ),
        )
        for e in kernel.entries
    )
    return Kernel(name, index, kernel.workspace, entries)


def measure(
    loaded: Loaded,
    rivals: Sequence[Candidate],
    task: Any,
    dims: tuple[int, ...],
    cold: bool,
    budget: float = 0.3,
) -> list[float]:
    """Median seconds of one launch of each of `rivals` at `dims`.

    They take turns for about `budget` seconds each, but `LEAST_ROUNDS` times at least; a time is
    that of a graph of launches by its number. cold: each launch reads another copy of the packed
    weights. Raises Failure, and RuntimeError for a kernel that reports an error.
    """
    device = loaded.device
    with device.active():
        driver, graphs = device.driver, Graphs(device)
        shared = [None if size is None else size for size in task.operands(dims)]
        held = [_filled(device, size) for size in shared if size is not None]
        packed = max((c.layout.bytes for c in rivals if c.layout), default=0)
        pool = _filled(device, max(COLD_BYTES, packed) if cold and packed else packed)
        status = _filled(device, 4, zero=True)
        stream = driver("cuStreamCreate", 0)
        begin, end = driver("cuEventCreate", 0), driver("cuEventCreate", 0)
        keep: list[object] = []
        runs: list[tuple[Any, int]] = []
        for rival in rivals:
            straight, count, work = _queued(
                loaded, rival, shared, held, pool, dims, cold, status.address
            )
            keep.append((straight, work))
            runs.append((graphs.capture(len(runs), straight.queue), count))
        took: list[list[float]] = [[] for _ in runs]
        last = time.perf_counter() + budget * len(runs)
        while time.perf_counter() < last or len(took[0]) <= LEAST_ROUNDS:
            for (graph, count), times in zip(runs, took, strict=True):
                driver("cuEventRecord", begin, stream)
                driver("cuGraphLaunch", graph, stream)
                driver("cuEventRecord", end, stream)
                driver("cuEventSynchronize", end)
                times.append(driver("cuEventElapsedTime", begin, end) * 1e-3 / count)
        word = ctypes.create_string_buffer(4)
        driver("cuMemcpyDtoH", ctypes.addressof(word), status.address, 4)
        if any(word.raw):
            raise RuntimeError("a kernel reported an error while it was measured")
        graphs.close()
        for event in (begin, end):
            driver("cuEventDestroy", event)
        driver("cuStreamDestroy", stream)
    return [max(median(times[1:]), 1e-9) for times in took]


def _queued(
    loaded: Loaded,
    rival: Candidate,
    shared: Sequence[int | None],
    held: Sequence[Memory],
    pool: Memory,
    dims: tuple[int, ...],
    cold: bool,
    status: int,
) -> tuple[Straight, int, Memory]:
    """Launches of a candidate that are ready, how many, and their workspace."""
    number = loaded.candidates.index(rival)
    layout = rival.layout
    step = 0 if layout is None else -(-layout.bytes // 256) * 256
    copies = max(pool.bytes // step, 1) if cold and step else 1
    addresses = [memory.address for memory in held]
    addresses += [pool.address + copy * step for copy in range(copies)]
    units = evaluate(rival.family.units(rival.spec), dims)
    steps: list[tuple[Launch, int, list[int]]] = []
    for i in range(LAUNCHES):
        others = iter(range(len(held)))
        # Candidates with one layout must not find in the cache what another has just read.
        weights = len(held) + (copies * number // len(loaded.candidates) + i) % copies
        at = [weights if size is None else next(others) for size in shared]
        places = tuple(Place("arena", index, 0) for index in at)
        steps.append((Launch(number, places, dims, units, None, (), ""), i, [status]))
    model: Any = loaded
    straight = Straight(model, steps, lambda place: place.index)
    work = Memory(loaded.device, straight.prepare((), addresses))
    straight.store(work.address)
    return straight, LAUNCHES, work


def _filled(device: Device, size: int, zero: bool = False) -> Memory:
    memory = Memory(device, size)
    data = moderate(min(size, 1 << 20))
    if zero:
        data[:] = 0
    for at in range(0, size, max(data.size, 1)):
        part = min(data.size, size - at)
        device.driver("cuMemcpyHtoD", memory.address + at, data.ctypes.data, part)
    return memory

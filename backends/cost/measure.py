"""Measures the machine profile of this machine with emitted kernels."""

from __future__ import annotations

import ctypes
import os
import platform
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median

import numpy as np
from llvmlite import ir

from tilewright.backends import profile as profiles
from tilewright.backends.cost import probes
from tilewright.backends.llvm.jit import Kernel, Library, compile_module
from tilewright.backends.llvm.pool import emit_pool
from tilewright.backends.profile import Bandwidth, Fit, MachineProfile, Rate, Rates, Reads
from tilewright.backends.target import Target, target_machine

Progress = Callable[[str, int, int], None]
"""Gets what is measured now, its number and the number of all."""

CALL_S = 2e-3
"""Length of one timed call."""

MOST_DRAM = 1 << 30


def measure(
    target: Target,
    seconds: float = 1.0,
    progress: Progress = lambda what, number, total: None,
) -> MachineProfile:
    """The profile of this machine for code of ``target``, which must run here.

    ``seconds``: how long each unit runs until its clock counts as sustained; everything takes
    about 12 times that. Nothing else should run meanwhile. Raises OSError where the system keeps
    AMX from this process.
    """
    module = ir.Module("probes")
    module.triple = target_machine(target).triple
    units = probes.multiplications(module, target)
    others = [emit(module, target) for emit in (probes.elementwise, probes.read, probes.write)]
    elementwise = module.globals[others[0].name]
    regions = _emit_regions(
        module, {"nothing": probes.nothing(module, target), "elementwise": elementwise}
    )
    library = compile_module(module, target)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    l1, l2, l3 = _caches(target)
    steps = len(units) + 8
    done = 0

    def tell(what: str) -> None:
        nonlocal done
        done += 1
        progress(what, done, steps)

    rates: dict[str, Rate] = {}
    for unit, probe in units.items():
        tell(f"{unit} multiplications")
        rates[unit] = _rate(library, probe, seconds)
    tell("elementwise operations")
    vector = _rate(library, others[0], seconds / 4).burst
    levels = {
        "l1": l1 // 2,
        "l2": l2 // 2,
        "l3": min(6 * l2, l3 // 2) if l3 else 6 * l2,
        "dram": _dram_bytes(l3),
    }
    reads: dict[str, Bandwidth] = {}
    for level, size in levels.items():
        tell(f"reads from {level.upper()}")
        reads[level] = _bandwidth(library.kernel("probe_read"), size, seconds / 4, cores)
    tell("writes")
    size = levels["dram"] // 4
    write = _bandwidth(library.kernel("probe_write"), size, seconds / 4, cores)
    tell("parallel regions")
    region_ns = _region_ns(library, regions, cores)
    tell("calls")
    launch_ns = max(_regions(library, regions, "nothing", 1, 1, 500), 0.1)
    return MachineProfile(
        target=target.name,
        source="measured",
        cpu=_cpu_name(),
        cores=cores,
        l1=l1,
        l2=l2,
        l3=l3,
        rates=Rates(**rates),
        read=Reads(**reads),
        write=write,
        region_ns=region_ns,
        launch_ns=launch_ns,
        vector=vector,
        fit=known.fit if (known := profiles.shipped().get(target.name)) else Fit(),
    )


def _rate(library: Library, probe: probes.Probe, seconds: float) -> Rate:
    kernel = library.kernel(probe.name)
    scratch = _scratch()
    turns = 16
    while (once := _time(kernel, turns, scratch)) < CALL_S:
        turns *= 2 if once > CALL_S / 4 else 8
    time.sleep(0.05)  # lets the clock recover from what ran before
    took: list[float] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(took) < 5:
        took.append(_time(kernel, turns, scratch))
    work = probe.operations * turns
    return Rate(burst=work / min(took), sustained=work / median(took[len(took) // 2 :]))


def _time(kernel: Kernel, turns: int, scratch: np.ndarray) -> float:
    begin = time.perf_counter()
    kernel(0, 0, 0, turns, scratch.ctypes.data)
    return time.perf_counter() - begin


def _scratch() -> np.ndarray:
    """Small random values in any reading: not zeros, as the clock depends on bits that toggle."""
    values = np.random.default_rng(0).standard_normal(probes.SCRATCH // 4 + 16).astype(np.float32)
    halves = (values.view(np.uint32) >> 16).astype(np.uint16)
    raw = np.concatenate([halves, halves]).view(np.uint8)
    skip = -raw.ctypes.data % 64
    return raw[skip : skip + probes.SCRATCH]


def _bandwidth(kernel: Kernel, size: int, seconds: float, cores: int) -> Bandwidth:
    """Of one core, and of each of two."""
    size = max(size // 4096, 1) * 4096
    one = _readers(kernel, size, seconds, 1)
    if cores == 1:
        return Bandwidth(one, one)
    return Bandwidth(one, _readers(kernel, max(size // 8192, 1) * 4096, seconds, 2))


def _readers(kernel: Kernel, size: int, seconds: float, count: int) -> float:
    """Bytes/s of each of ``count`` threads that pass over ``size`` bytes each, at once."""
    buffers = [_buffer(size) for _ in range(count)]
    rates: list[float] = [0.0] * count
    ready = threading.Barrier(count)

    def run(i: int) -> None:
        buffer, out = buffers[i], np.zeros(64, np.uint8)
        pointers = (ctypes.c_void_p * 1)(buffer.ctypes.data)
        dims = (ctypes.c_int64 * 1)(size)
        turns = max(1, (8 << 20) // size)
        kernel(pointers, dims, 0, 1, out.ctypes.data)
        ready.wait()
        took: list[float] = []
        end = time.perf_counter() + seconds
        while time.perf_counter() < end or len(took) < 2:
            begin = time.perf_counter()
            kernel(pointers, dims, 0, turns, out.ctypes.data)
            took.append(time.perf_counter() - begin)
        rates[i] = size * turns / median(took)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(rates) / count


def _buffer(size: int) -> np.ndarray:
    raw = np.ones(size + 4096, np.uint8)
    skip = -raw.ctypes.data % 4096
    return raw[skip : skip + size]


def _dram_bytes(l3: int) -> int:
    """A buffer that L3 does not hold, within reason and a quarter of the free memory."""
    size = min(max(2 * l3, 256 << 20), MOST_DRAM)
    if hasattr(os, "sysconf") and "SC_AVPHYS_PAGES" in os.sysconf_names:
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        size = min(size, free // 4)
    return size


def _emit_regions(
    module: ir.Module, kernels: Mapping[str, ir.Function]
) -> tuple[str, str, dict[str, str]]:
    """Exported functions: create(threads) and destroy(pool) of the pool, and for each kernel
    regions(pool, units, grain, scratch, stride, count), which runs it ``count`` times."""
    pool = emit_pool(module)
    pointer, word = ir.PointerType(), ir.IntType(64)
    create = ir.Function(module, ir.FunctionType(pointer, [word]), "probe_create")
    b = ir.IRBuilder(create.append_basic_block())
    b.ret(b.call(pool.create, create.args))
    destroy = ir.Function(module, ir.FunctionType(ir.VoidType(), [pointer]), "probe_destroy")
    b = ir.IRBuilder(destroy.append_basic_block())
    b.call(pool.destroy, destroy.args)
    b.ret_void()
    kind = ir.FunctionType(ir.IntType(32), [pointer, word, word, pointer, word, word])
    names = {}
    for name, kernel in kernels.items():
        regions = ir.Function(module, kind, f"probe_regions_{name}")
        handle, units, grain, scratch, stride, count = regions.args
        entry, body, done = (regions.append_basic_block() for _ in range(3))
        b = ir.IRBuilder(entry)
        b.branch(body)
        b.position_at_end(body)
        i = b.phi(word)
        null, none, one = ir.Constant(pointer, None), ir.Constant(word, 0), ir.Constant(word, 1)
        given = [handle, kernel, null, null, units, grain, one, scratch, stride]
        status = b.call(pool.parallel, given)
        following = b.add(i, one)
        i.add_incoming(none, entry)
        i.add_incoming(following, body)
        b.cbranch(b.icmp_signed("<", following, count), body, done)
        b.position_at_end(done)
        b.ret(status)
        names[name] = regions.name
    return "probe_create", "probe_destroy", names


def _region_ns(library: Library, names: tuple[str, str, dict[str, str]], cores: int) -> float:
    """What a parallel region costs beyond its share of the work: some 20 us of elementwise work
    a core, by all cores and by one."""
    units = 128
    alone = _regions(library, names, "elementwise", 1, units, 40)
    if cores == 1:
        return 1.0
    together = _regions(library, names, "elementwise", cores, units * cores, 40)
    return max(together - alone, 1.0)


def _regions(
    library: Library,
    names: tuple[str, str, dict[str, str]],
    kernel: str,
    threads: int,
    units: int,
    count: int,
) -> float:
    """Nanoseconds of one region: the median of 25 runs of ``count``."""
    address = library.address
    create = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_int64)(address(names[0]))
    destroy = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(address(names[1]))
    word, pointer = ctypes.c_int64, ctypes.c_void_p
    kind = ctypes.CFUNCTYPE(ctypes.c_int32, pointer, word, word, pointer, word, word)
    regions = kind(address(names[2][kernel]))
    scratch = np.zeros(threads * probes.SCRATCH + 64, np.uint8)
    place = scratch.ctypes.data + -scratch.ctypes.data % 64
    pool = create(threads)
    took: list[float] = []
    try:
        for _ in range(25):
            begin = time.perf_counter_ns()
            regions(pool, units, max(units // (4 * threads), 1), place, probes.SCRATCH, count)
            took.append((time.perf_counter_ns() - begin) / count)
    finally:
        destroy(pool)
    return median(took)


def _caches(target: Target) -> tuple[int, int, int]:
    """Bytes of L1 data, L2 and L3 as the system tells; the target row's where it does not."""
    sizes = {1: target.l1_kib << 10, 2: target.l2_kib << 10, 3: 0}
    for entry in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*"):
        level, kind, size = ((entry / n).read_text().strip() for n in ("level", "type", "size"))
        if kind != "Instruction":
            scale = {"K": 1 << 10, "M": 1 << 20}.get(size[-1], 1)
            sizes[int(level)] = int(size.rstrip("KM")) * scale
    return sizes[1], sizes[2], sizes[3]


def _cpu_name() -> str:
    path = Path("/proc/cpuinfo")
    if path.exists():
        for line in path.read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()

"""Launches of single kernels for timing: compiled, with operands, weights as cold as in a model."""

from __future__ import annotations

import ctypes
import hashlib
import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from llvmlite import ir

from tilewright.backends.kernels.candidates import Candidate
from tilewright.backends.kernels.family import evaluate
from tilewright.backends.kernels.registry import family
from tilewright.backends.llvm.jit import machine_code
from tilewright.backends.target import Target
from tilewright.backends.tuning.measure import repeated
from tilewright.tools.bench.parallel import Pool

COLD_BYTES = 32 << 20
"""Weights are taken from as many copies as make up this: more than L2 holds."""


MOST_WEIGHTS = 80 << 20
"""Memory for weights, 4096 x 4096 in f32; a multiple of it for what is larger."""


def compile_family(name: str, specs: Sequence[Any], target: Target, folder: Path) -> Path:
    """Object file with ``kernel0``, ``kernel1``, ... for ``specs`` of family ``name``.

    From ``folder`` if it was compiled before from the same IR. One file, since kernels share most
    of their code.
    """
    owner = family(name)
    emit = owner.emit
    assert emit is not None, f"{name} has no kernels for CPUs"
    module = ir.Module("launches")
    for i, spec in enumerate(specs):
        emit(module, spec, target, f"kernel{i}")
    digest = hashlib.sha256(f"{target}{module}".encode()).hexdigest()[:16]
    path = folder / f"{name}.{digest}.o"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        part.write_bytes(machine_code(module, target))
        part.replace(path)
    return path


@dataclass
class Launch:
    """A kernel with its operands; each launch takes the next copy of the weights."""

    kernel: Any
    pointers: list[Any]
    dims: Any
    units: int
    scratch: np.ndarray
    stride: int
    keep: list[np.ndarray]

    def __post_init__(self) -> None:
        self._turn = itertools.cycle(self.pointers)
        self._address = ctypes.cast(self.kernel, ctypes.c_void_p).value or 0

    def run(self, count: int = 1, pool: Pool | None = None) -> float:
        """Seconds of one launch, the mean of ``count``, without the call from Python; on the
        threads of ``pool``, else on this one."""
        taken = self._alone if pool is None else partial(self._shared, pool)
        empty = taken(count, 0)
        return max(taken(count, self.units) - empty, 1e-9) / count

    def _alone(self, count: int, units: int) -> float:
        kernel, turn, dims, scratch = self.kernel, self._turn, self.dims, self.scratch.ctypes.data
        begin = time.perf_counter()
        for _ in range(count):
            kernel(next(turn), dims, 0, units, scratch)
        return time.perf_counter() - begin

    def _shared(self, pool: Pool, count: int, units: int) -> float:
        run, kernel, turn, stride = pool.run, self._address, self._turn, self.stride
        dims, scratch = self.dims, self.scratch.ctypes.data
        pool.wake()
        begin = time.perf_counter()
        for _ in range(count):
            run(kernel, next(turn), dims, units, scratch, stride)
        return time.perf_counter() - begin


@cache
def _weights(size: int) -> np.ndarray:
    return _values(size)


@lru_cache(4)
def _operands(sizes: tuple[int | None, ...]) -> tuple[np.ndarray | None, ...]:
    return tuple(None if size is None else _values(size) for size in sizes)


def launch(
    candidate: Candidate,
    task: Any,
    dims: tuple[int, ...],
    kernel: Any,
    cold: bool = True,
    threads: int = 1,
) -> Launch:
    """``candidate`` for ``task`` at ``dims``, dense. ``cold``: weights from beyond L2, else the
    same ones at every launch. ``threads``: at most so many.

    All launches take their weights from the same memory: how the system's pages lie there can
    double the time of reading them. So do launches of one task with the other operands and results,
    as launches of a model do with its arena: results that each had to itself would come from DRAM.
    """
    owner, spec = candidate.family, candidate.spec
    held = candidate.layout.bytes if candidate.layout else 0
    step = -(-held // 4096) * 4096 + 4096
    copies = max(1, min(256, COLD_BYTES // held)) if held and cold else 1
    room = -(-step * copies // MOST_WEIGHTS) * MOST_WEIGHTS
    pool = _weights(room) if held else _values(64)
    if owner.sample is not None:
        pool = repeated(owner.sample(spec), step, copies)
    arrays = _operands(tuple(task.operands(dims)))
    pointers = []
    for copy in range(copies):
        at = [(pool[copy * step :] if a is None else a).ctypes.data for a in arrays]
        pointers.append((ctypes.c_void_p * len(at))(*at))
    stride = -(-evaluate(owner.scratch_bytes(spec), dims) // 4096) * 4096 + 4096
    return Launch(
        kernel=kernel,
        pointers=pointers,
        dims=(ctypes.c_int64 * len(dims))(*dims),
        units=evaluate(owner.units(spec), dims),
        scratch=_aligned(threads * stride),
        stride=stride,
        keep=[pool, *(a for a in arrays if a is not None)],
    )


def _values(size: int) -> np.ndarray:
    """``size`` bytes that are moderate numbers as f32 and as bf16; sums of them stay so."""
    rng = np.random.default_rng(0)
    part = (rng.standard_normal(8192).astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
    raw = _aligned(size)
    pattern = part.view(np.uint8)
    for start in range(0, size, pattern.size):
        raw[start : start + pattern.size] = pattern[: size - start]
    return raw


def _aligned(size: int) -> np.ndarray:
    raw = np.zeros(size + 64, np.uint8)
    skip = -raw.ctypes.data % 64
    return raw[skip : skip + size]

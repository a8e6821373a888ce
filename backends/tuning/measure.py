"""Times of candidates for one task, taken in turn, with weights as cold as in a model."""

from __future__ import annotations

import ctypes
import itertools
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Protocol

import numpy as np

from tilewright.backends.kernels.candidates import Candidate
from tilewright.backends.kernels.family import evaluate
from tilewright.backends.llvm.jit import Kernel, Library, load
from tilewright.backends.target import Target
from tilewright.backends.tuning.code import Codes
from tilewright.backends.tuning.values import aligned, moderate

COLD_BYTES = 128 << 20
"""Packed weights are read from copies in turn that make up this: more than caches of a core hold,
as the weights of a model are."""

LEAST_ROUNDS = 5


class Task(Protocol):
    """What measuring needs of a task (backends.kernels.tasks)."""

    def operands(self, dims: Sequence[int]) -> tuple[int | None, ...]:
        """Bytes of every argument, None for the packed constant."""


@dataclass
class _Launch:
    kernel: Kernel
    pointers: Iterator[Any]
    dims: Any
    units: int
    scratch: np.ndarray
    keep: list[np.ndarray]

    def seconds(self, units: int) -> float:
        at, scratch = next(self.pointers), self.scratch.ctypes.data
        begin = time.thread_time_ns()
        status = self.kernel(at, self.dims, 0, units, scratch)
        took = (time.thread_time_ns() - begin) * 1e-9
        if status:
            raise RuntimeError(f"a kernel gave status {status} while it was measured")
        return took


@dataclass(frozen=True)
class Compiled:
    """Candidates loaded into this process, in order."""

    candidates: tuple[Candidate, ...]
    library: Library


def load_candidates(candidates: Sequence[Candidate], target: Target, codes: Codes) -> Compiled:
    """Code for `target`, which must run here. Raises OSError where AMX is refused."""
    return Compiled(tuple(candidates), load(codes.get(candidates, target), target))


def measure(
    compiled: Compiled,
    rivals: Sequence[Candidate],
    task: Task,
    dims: tuple[int, ...],
    cold: bool,
    budget: float = 0.3,
) -> list[float]:
    """Median seconds of one launch of each of `rivals` at `dims`, on one thread.

    They take turns, so that frequency and neighbours hit all alike, for about `budget` seconds
    each, but `LEAST_ROUNDS` times at least. Times are those of this thread, which do not count
    while others have its core; the call from Python is subtracted. cold: each launch reads another
    copy of the packed weights.
    """
    pool = np.zeros(0, np.uint8)
    held = max((c.layout.bytes for c in rivals if c.layout), default=0)
    if held:
        pool = moderate(max(COLD_BYTES, held) if cold else held)
    shared = [None if size is None else moderate(size + 64) for size in task.operands(dims)]
    numbers = [compiled.candidates.index(rival) for rival in rivals]
    launches = [_prepare(compiled, i, shared, pool, dims, cold) for i in numbers]
    for launch in launches:
        launch.seconds(launch.units)
    took: list[list[float]] = [[] for _ in launches]
    empty: list[list[float]] = [[] for _ in launches]
    end = time.perf_counter() + budget * len(launches)
    while time.perf_counter() < end or len(took[0]) < LEAST_ROUNDS:
        for launch, times, nothing in zip(launches, took, empty, strict=True):
            nothing.append(launch.seconds(0))
            times.append(launch.seconds(launch.units))
    return [
        max(median(times) - median(nothing), 1e-9)
        for times, nothing in zip(took, empty, strict=True)
    ]


def _prepare(
    compiled: Compiled,
    number: int,
    shared: Sequence[np.ndarray | None],
    pool: np.ndarray,
    dims: tuple[int, ...],
    cold: bool,
) -> _Launch:
    candidate = compiled.candidates[number]
    family, spec = candidate.family, candidate.spec
    layout = candidate.layout
    step = 0 if layout is None else -(-layout.bytes // 64) * 64
    copies = max(pool.size // step, 1) if cold and step else 1
    if family.sample is not None:
        pool = repeated(family.sample(spec), step, copies)
    table = []
    for copy in range(copies):
        at = [(pool[copy * step :] if a is None else a).ctypes.data for a in shared]
        table.append((ctypes.c_void_p * len(at))(*at))
    start = copies * number // len(compiled.candidates)
    return _Launch(
        kernel=compiled.library.kernel(f"candidate{number}"),
        # Candidates with one layout must not find in the cache what another has just read.
        pointers=itertools.cycle(table[start:] + table[:start]),
        dims=(ctypes.c_int64 * max(len(dims), 1))(*dims),
        units=evaluate(family.units(spec), dims),
        scratch=aligned(evaluate(family.scratch_bytes(spec), dims)),
        keep=[a for a in (*shared, pool) if a is not None],
    )


def repeated(packed: np.ndarray, step: int, copies: int) -> np.ndarray:
    """Copies of packed weights, ``step`` bytes apart."""
    raw = aligned(step * copies)
    raw.reshape(copies, step)[:, : packed.nbytes] = packed.reshape(-1).view(np.uint8)
    return raw

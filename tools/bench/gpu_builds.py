"""Machine code of GPU kernels for benchmarks: made in all cores, kept for the next call."""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar

from tilewright.backends.cuda.kernel import CudaKernel
from tilewright.backends.target import lookup
from tilewright.tools.bench.gpu_kernels import cubin

Job = TypeVar("Job")
Built = tuple[CudaKernel, bytes]
TARGET = "sm_90a"


def add_options(parser: argparse.ArgumentParser) -> None:
    """--work and --compile-only."""
    parser.add_argument("--work", type=Path, help="keep compiled kernels here for the next call")
    parser.add_argument("--compile-only", action="store_true", help="measure nothing")


def build(
    make: Callable[[Job], CudaKernel], name: str, jobs: Sequence[Job], work: Path | None
) -> dict[Job, Built]:
    """Text and machine code of the kernels that `make`, a function of a module, gives for `jobs`.

    name: of their functions.
    """
    started = time.perf_counter()
    every = list(dict.fromkeys(jobs))
    one = partial(_build, make, name, work)
    cores = len(os.sched_getaffinity(0))
    with ProcessPoolExecutor(cores, get_context("spawn")) as pool:
        found = dict(zip(every, pool.map(one, every), strict=True))
    print(f"{len(every)} kernels in {time.perf_counter() - started:.1f} s", file=sys.stderr)
    return found


def _build(make: Callable[[Job], CudaKernel], name: str, work: Path | None, job: Job) -> Built:
    kernel, target = make(job), lookup(TARGET)
    if work is None:
        return kernel, cubin(kernel, name, target).code
    digest = hashlib.sha256(f"{TARGET}\n{name}\n{kernel!r}".encode()).hexdigest()
    path = work / f"{digest}.cubin"
    if not path.exists():
        code = cubin(kernel, name, target).code
        work.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=work, delete=False) as part:
            part.write(code)
        os.replace(part.name, path)
    return kernel, path.read_bytes()

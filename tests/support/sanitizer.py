"""All GPU kernels under compute-sanitizer: PYTHONPATH=tests python -m support.sanitizer

Launches of every family that serves the target and of random regions, of few bytes each, compiled
first in all cores; then a process for each tool and family. Every array is an allocation of its
own, so that memcheck sees a byte too far; what a kernel gives is compared too. Where a kernel's
grid depends on the number of multiprocessors, it runs as if there were one cluster's as well. A
line for each family: launches, and what the tools count; exit status 1 if that is anything.
"""

from __future__ import annotations

import argparse
import os
import pickle
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass, replace
from math import prod
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from support.gpu_cases import check, machine_code
from support.random_regions import random_region
from support.region_oracle import DTYPES, reference

from tilewright.backends.cuda.kernel import CudaKernel
from tilewright.backends.cuda.region import region_kernel
from tilewright.backends.kernels.family import Case
from tilewright.backends.kernels.registry import families
from tilewright.backends.llvm.region.spec import Load, Reduce, RegionSpec, Store
from tilewright.backends.target import Target, lookup
from tilewright.tools.bench.gpu_kernels import Device

TOOLS = ("memcheck", "racecheck")
REGION = "region"
SMALL = 1 << 21
"""Bytes of a launch at most: the tools make every access tens to hundreds of times as slow."""
LARGE = 1 << 23
"""Of the one that is as large as it may be."""
_ERRORS = re.compile(r"ERROR SUMMARY: (\d+) error")
_HAZARDS = re.compile(r"RACECHECK SUMMARY: (\d+) hazard")
_START = 30.0
"""Seconds for a process to start and to end, beside those of its launches."""


@dataclass(frozen=True)
class Prepared:
    """A launch and its kernel."""

    case: Case
    kernel: CudaKernel
    code: bytes


@dataclass(frozen=True)
class Found:
    """What a tool said of a family. launches: that ran, of ``all``; counted: errors or hazards,
    None if the tool did not come to its end."""

    launches: int
    all: int
    counted: int | None
    wrong: tuple[str, ...]
    log: str

    @property
    def clean(self) -> bool:
        return self.counted == 0 and not self.wrong and self.launches > 0


def subjects(target: Target) -> list[str]:
    """Families that have kernels for a GPU, and regions."""
    return [*(name for name, family in families().items() if family.serves(target)), REGION]


def chosen(name: str, most: int) -> list[Case]:
    """Launches of few bytes, at most so many with the largest that is not too large, from all over
    what the family is tested with: some ways to compute are for many columns or rows alone."""
    every = _regions(most) if name == REGION else list(families()[name].cases())
    sizes = [sum(a.nbytes for a in (*c.args, *c.results)) for c in every]
    small = [i for i, size in enumerate(sizes) if size <= SMALL]
    allowed = [i for i, size in enumerate(sizes) if size <= LARGE]
    count = min(most, len(small))
    taken = {small[i * len(small) // count] for i in range(count)}
    largest = max(allowed, key=lambda i: sizes[i])
    if largest not in taken and len(taken) == most:
        taken.remove(sorted(taken)[most // 2])
    return [every[i] for i in sorted({*taken, largest})]


def _regions(most: int) -> list[Case]:
    found = []
    for seed in range(most - 2):
        spec, arrays, sizes, params = random_region(seed)
        found.append(_region(f"seed {seed}", spec, arrays, sizes, params))
    for rows, length, axis in ((2, 70001, 1), (20000, 20, 0)):  # several blocks share a result
        strides = (1, 0) if axis else (0, 1)
        body = (Load(0, (length, 1)), Reduce("sum", 0))
        store = (Store(1, "f32", strides),)
        spec = RegionSpec(
            domain=(rows, length), reduced=(axis,), inputs=("f32",), params=0, body=body,
            outputs=store,
        )  # fmt: skip
        x = np.random.default_rng(0).random((rows, length), np.float32)
        kept = rows if axis else length
        found.append(_region(f"sums {rows} {length} {axis}", spec, [x], [kept], ()))
    return found


def _region(label: str, spec: Any, arrays: Any, sizes: Any, params: Any) -> Case:
    kinds = [store.dtype for store in spec.outputs]
    expected = reference(spec, arrays, params, sizes)
    wide = [
        e.astype(np.float64) if DTYPES[k].kind in "fV" else e
        for e, k in zip(expected, kinds, strict=True)
    ]
    results = [np.zeros(n, DTYPES[k]) for n, k in zip(sizes, kinds, strict=True)]
    rtol = max({"f16": 1e-3, "bf16": 8e-3}.get(kind, 1e-4) for kind in kinds)
    operands = tuple(np.ascontiguousarray(a) for a in arrays)
    return Case(label, spec, operands, tuple(results), tuple(params), tuple(wide), rtol, 1e-4)


def prepare(name: str, most: int, target: Target, part: int, parts: int) -> list[Prepared]:
    """One in ``parts`` of the launches of a family, compiled."""
    made: dict[Any, tuple[CudaKernel, bytes]] = {}
    found = []
    for case in chosen(name, most)[part::parts]:
        if case.spec not in made:
            kernel = _kernel(name, case.spec, target)
            number = int(target.name.removeprefix("sm_").rstrip("a"))
            made[case.spec] = kernel, machine_code(kernel, "kernel", target, number)
        found.append(Prepared(case, *made[case.spec]))
    return found


def _kernel(name: str, spec: Any, target: Target) -> CudaKernel:
    if name == REGION:
        kernel = region_kernel(spec, target, "kernel")
        assert kernel is not None, spec
        return kernel
    emit = families()[name].cuda
    assert emit is not None
    return emit(spec, target, "kernel")


def launch_all(name: str, path: Path, seconds: float) -> None:
    """What a process under a tool does: lines that `parsed` reads."""
    family: Any = SimpleNamespace(units=lambda _: "1") if name == REGION else families()[name]
    with path.open("rb") as file:
        every: list[Prepared] = pickle.load(file)
    device, end = Device(), time.monotonic() + seconds
    real = device.sms
    for one in every:
        if time.monotonic() > end:
            break
        print(f"launch {one.case.label} {one.case.dims}", flush=True)
        texts = [one.kernel.workspace, *(t for e in one.kernel.entries for t in e.grid)]
        few = max(prod(e.cluster) for e in one.kernel.entries)
        for device.sms in (real, few) if any("sms" in text for text in texts) else (real,):
            try:
                check(family, one.case, device, one.kernel, one.code, "kernel", (0,), 0)
            except AssertionError as error:
                print("wrong " + " ".join(str(error).split())[:300], flush=True)


def parsed(text: str, every: int) -> Found:
    """From the output of a process under a tool."""
    lines = text.splitlines()
    wrong = tuple(line for line in lines if line.startswith("wrong "))
    match = _HAZARDS.search(text) or _ERRORS.search(text)
    launches = sum(line.startswith("launch ") for line in lines)
    return Found(launches, every, int(match[1]) if match else None, wrong, text)


def run(tool: str, name: str, path: Path, every: int, seconds: float) -> Found:
    """A family under a tool."""
    words = ["compute-sanitizer", "--tool", tool, "--print-limit", "6", sys.executable, "-m"]
    words += ["support.sanitizer", "--launch", name, str(path), "--seconds", str(seconds)]
    process = subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )
    try:
        text, _ = process.communicate(timeout=seconds + _START)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        text, _ = process.communicate()
        return replace(parsed(text, every), counted=None, log=text + f"\nstopped: {seconds} s\n")
    found = parsed(text, every)
    if process.returncode:
        return replace(found, counted=None, log=f"{text}\nexit status {process.returncode}\n")
    return found


def row(name: str, by_tool: dict[str, Found]) -> str:
    """A line of the table, and of what is not clean a few lines more."""
    cells, more = [], []
    for found in by_tool.values():
        counted = "did not end" if found.counted is None else str(found.counted)
        cells.append(f"{found.launches:3} of {found.all:3} {counted:>11} {len(found.wrong):5}")
        if not found.clean:
            lines = found.log.splitlines()
            told = [line for line in lines if line.startswith(("===", "wrong"))][:12]
            if found.counted is None:
                told += [*[line for line in lines if line.startswith("launch ")][-1:], *lines[-6:]]
            more += [f"    {line[:200]}" for line in told]
    return "\n".join([f"{name:20} " + " | ".join(cells), *more])


def main(arguments: Sequence[str] | None = None) -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", default="sm_90a", help="[sm_90a]")
    parser.add_argument("--only", help="families, separated by commas; all of them otherwise")
    parser.add_argument("--most", type=int, default=16, help="launches of a family [16]")
    parser.add_argument("--seconds", type=float, default=35, help="of a family's launches [35]")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes at a time")
    parser.add_argument("--launch", nargs=2, metavar=("FAMILY", "FILE"), help="in such a process")
    given = parser.parse_args(arguments)
    if given.launch:
        launch_all(given.launch[0], Path(given.launch[1]), given.seconds)
        return
    target = lookup(given.target)
    names = given.only.split(",") if given.only else subjects(target)
    parts, begun = 4, time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        paths, counts = {}, {}
        with ProcessPoolExecutor(given.jobs, get_context("spawn")) as pool:
            jobs = {
                n: [pool.submit(prepare, n, given.most, target, p, parts) for p in range(parts)]
                for n in names
            }
            for name, own in jobs.items():
                made = [one for part in own for one in part.result()]
                paths[name], counts[name] = Path(folder) / name, len(made)
                paths[name].write_bytes(pickle.dumps(made))
        print(f"{sum(counts.values())} launches compiled in {time.monotonic() - begun:.0f} s")
        print(f"{'':20} " + " | ".join(f"{tool:>10} {'counted':>11} wrong" for tool in TOOLS))
        with ThreadPoolExecutor(given.jobs) as threads:
            ways = {
                (n, t): threads.submit(run, t, n, paths[n], counts[n], given.seconds)
                for t in reversed(TOOLS)  # the slower one first
                for n in names
            }
            clean = True
            for name in names:
                by_tool = {tool: ways[name, tool].result() for tool in TOOLS}
                clean &= all(found.clean for found in by_tool.values())
                print(row(name, by_tool), flush=True)
    print(f"{'clean' if clean else 'NOT CLEAN'}, {time.monotonic() - begun:.0f} s")
    raise SystemExit(0 if clean else 1)


if __name__ == "__main__":
    main()

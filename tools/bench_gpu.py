"""All benchmarks of a GPU in one call: python -m tilewright.tools.bench_gpu FOLDER --seconds 570

Every stage is a process with an end of its own, whose lines are in FOLDER/NAME.txt as soon as they
are printed; summary.txt has what is known so far after each. What compiles kernels for later stages
runs beside the compiling of models, and ends before anything is timed. Stages check results before
they time them.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tilewright.tools.bench_gpu_weights import KINDS

TOOLS = "tilewright.tools."
_ENVIRONMENT = {"PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1"}
"""Models are compiled by a process each: numpy's threads of all of them would fight for cores."""
_MODEL = re.compile(r"^(case, |[\w-]+ +[\d.]+ )")
_RATIO = re.compile(r"^(2\^\S+|all) +(\d+) ([\d.]+)$")


@dataclass(frozen=True)
class Stage:
    """A module with its arguments. expected: seconds that it takes on an H200 with 16 cores, by
    estimate; limit: the most that it gets. kernels: whether --compile-only makes what it times."""

    name: str
    module: str
    arguments: tuple[str, ...]
    expected: int
    limit: int
    kernels: bool = True


STAGES = (
    Stage("models", "bench_gpu_models", ("--peer-seconds", "150"), 215, 270, kernels=False),
    Stage("gemm_f16", "bench_gpu_gemm", ("--element", "f16", "--each", "12"), 70, 100),
    Stage("gemm_f16_gelu", "bench_gpu_gemm", ("--element", "f16", "--gelu", "--each", "6"), 50, 80),
    Stage("weights", "bench_gpu_weights", KINDS, 35, 60),
    Stage("attention", "bench_gpu_attention", (), 30, 50),
    Stage("regions", "bench_gpu_regions", (), 20, 35),
    Stage("sparse", "bench_gpu_sparse", ("--seconds", "20"), 25, 40),
    Stage("bitmaps", "bench_gpu_bitmaps", ("--seconds", "12"), 15, 30),
)


def command(stage: Stage, work: Path, *more: str) -> list[str]:
    """Of a stage that keeps what it compiles in a folder of `work`."""
    words = [sys.executable, "-m", TOOLS + stage.module, *stage.arguments]
    return [*words, "--work", str(work / stage.module), *more]


def run(words: Sequence[str], output: Path, seconds: float) -> str:
    """Run a command, its lines to a file; "" or why it did not end well."""
    if seconds <= 0:
        output.touch()
        return "no time left"
    with output.open("w") as file:
        process = subprocess.Popen(
            words,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, **_ENVIRONMENT},
        )
        try:
            status = process.wait(seconds)
        except subprocess.TimeoutExpired:
            return f"stopped after {seconds:.0f} s"
        finally:
            _end(process)
    return f"exit status {status}" if status else ""


def _end(process: subprocess.Popen[bytes]) -> None:
    """A process and all that it started."""
    with contextlib.suppress(ProcessLookupError):  # all of them have ended
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def summary(folder: Path, ended: Sequence[tuple[Stage, float, str]]) -> str:
    """A line for each stage, and geometric means of the products by size."""
    lines = []
    for stage, seconds, wrong in ended:
        lines.append(f"{stage.name:14} {seconds:6.1f} s  {wrong or 'complete'}")
        text = (folder / f"{stage.name}.txt").read_text()
        if stage.module == "bench_gpu_gemm":
            lines += [f"    {line}" for line in text.splitlines() if _RATIO.match(line)]
        if stage.module == "bench_gpu_models":
            lines += [f"    {line}" for line in text.splitlines() if _MODEL.match(line)]
        if stage.module == "bench_gpu_weights":
            lines += [f"    {line}" for line in _weights(text)]
    return "\n".join(lines) + "\n"


def _weights(text: str) -> list[str]:
    """By kind and rows, the geometric mean of the peer's time over ours."""
    found: dict[tuple[str, int], list[float]] = {}
    for line in text.splitlines()[1:]:
        words = line.split()
        if len(words) > 6 and words[1].isdigit():
            found.setdefault((words[0], int(words[1])), []).append(float(words[6]))
    return [
        f"{kind} M = {m}: {statistics.geometric_mean(ratios):.2f} of {len(ratios)} shapes"
        for (kind, m), ratios in found.items()
    ]


def _compile(stages: Sequence[Stage], work: Path, gate: Path, seconds: float) -> None:
    """What stages time, one stage after the other, each in all cores; then the gate is open."""
    end = time.monotonic() + seconds
    for stage in stages:
        output = work / f"{stage.name}.txt"
        wrong = run(command(stage, work, "--compile-only"), output, end - time.monotonic())
        if wrong:
            print(f"{stage.name}: compiling: {wrong}\n{output.read_text()[-1000:]}", flush=True)
    gate.touch()


def main(arguments: Sequence[str] | None = None) -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seconds", type=float, default=570, help="for everything [570]")
    parser.add_argument("--stages", help="names, separated by commas; all of them otherwise")
    parser.add_argument("--compile-only", action="store_true", help="measure nothing")
    parser.add_argument("--work", type=Path, help="keep what is compiled here for the next call")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as work:
        _run_all(given, given.folder, given.work or Path(work))


def _run_all(given: argparse.Namespace, folder: Path, work: Path) -> None:
    for made in (folder, work):
        made.mkdir(parents=True, exist_ok=True)
    names = given.stages.split(",") if given.stages else [stage.name for stage in STAGES]
    chosen = [stage for stage in STAGES if stage.name in names]
    started = time.monotonic()
    gate = work / "gate"
    gate.unlink(missing_ok=True)
    kernels = [stage for stage in chosen if stage.kernels]
    compiling = threading.Thread(target=_compile, args=(kernels, work, gate, given.seconds))
    compiling.start()
    ended: list[tuple[Stage, float, str]] = []
    for stage in chosen:
        if stage.kernels:
            compiling.join()
        more = ["--output", str(folder / "models.json"), "--gate", str(gate)]
        words = command(stage, work, *(() if stage.kernels else more))
        if given.compile_only:
            words.append("--compile-only")
        begun = time.monotonic()
        left = given.seconds - (begun - started)
        output = folder / f"{stage.name}.txt"
        wrong = run(words, output, min(stage.limit, left))
        ended.append((stage, time.monotonic() - begun, wrong))
        (folder / "summary.txt").write_text(summary(folder, ended))
        print(f"{stage.name}: {wrong or 'complete'}, {time.monotonic() - begun:.1f} s", flush=True)
    compiling.join()
    print((folder / "summary.txt").read_text(), end="")


if __name__ == "__main__":
    main()

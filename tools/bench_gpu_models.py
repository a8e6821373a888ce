"""Whole models on a GPU beside torch.compile: python -m tilewright.tools.bench_gpu_models

Every model has random weights; both compute in bf16 (this compiler within 1e-2 of f32) and are
compared with PyTorch in float64. Times are of CUDA events around runs with arrays on the device,
which take turns among several sets of inputs; the peer is torch.compile with mode max-autotune,
which runs as CUDA graphs.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from fcntl import LOCK_EX, flock
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, cast

import numpy as np

from tilewright.compiler.driver import compile_model
from tilewright.compiler.options import Options
from tilewright.runtime.cuda.binding import DeviceBinding
from tilewright.runtime.session import Session
from tilewright.tools.bench.record import record
from tilewright.tools.bench.transformer_graphs import (
    BERT_BASE,
    MINILM,
    Decoder,
    Encoder,
    decoder_graph,
    encoder_graph,
)
from tilewright.tools.bench.transformer_modules import decoder_module, encoder_module

SETS = 4
"""Inputs that runs take turns with."""
_REPEATS = 9
_HOST_RUNS = 50
_STEPS = 50
_ROUND_SECONDS = 0.05
CODELM = Decoder()


@dataclass(frozen=True)
class Case:
    """A model at one size. `past` of a decoder's step; None: all tokens at once."""

    sizes: Encoder | Decoder
    batch: int
    seq: int
    past: int | None = None

    @property
    def name(self) -> str:
        """For tables and `--cases`."""
        size = f"b{self.batch}_s{self.seq}" if self.past is None else f"b{self.batch}_p{self.past}"
        return f"{self.sizes.name}_{size}"


CASES = (
    Case(MINILM, 1, 128),
    Case(MINILM, 32, 128),
    Case(BERT_BASE, 1, 128),
    Case(BERT_BASE, 32, 128),
    Case(CODELM, 1, 1, 128),
    Case(CODELM, 1, 1, 1024),
    Case(CODELM, 1, 128),
    Case(CODELM, 1, 512),
)


@dataclass(frozen=True)
class Row:
    """What was measured of a case. Times are microseconds; errors relative L2 against float64.

    device: of a run by events. queue: that the host takes to queue one. host: from numpy arrays to
    numpy arrays. launches: their number, and the sum of their times alone. loop: of a decoder's
    step on the caches of the step before, so that sizes are new each time. peer: torch.compile.
    """

    case: str
    device: float
    queue: float
    host: float
    launches: int
    launch_sum: float
    loop: float | None
    error: float
    peer: float | None
    peer_error: float | None
    ratio: float | None


def inputs(case: Case, seed: int) -> dict[str, np.ndarray[Any, Any]]:
    """Inputs of a case by name."""
    rng = np.random.default_rng(seed)
    ids = rng.integers(1, case.sizes.words, (case.batch, case.seq)).astype(np.int64)
    found: dict[str, np.ndarray[Any, Any]] = {"input_ids": ids}
    if isinstance(case.sizes, Encoder):
        mask = np.ones((case.batch, case.seq), np.int64)
        mask[-1, case.seq * 3 // 4 :] = 0
        found["attention_mask"] = mask
    elif case.past is not None:
        sizes = case.sizes
        shape = (sizes.layers, case.batch, sizes.groups, case.past, sizes.size)
        for name in ("past_k", "past_v"):
            found[name] = rng.standard_normal(shape, np.float32)
    return found


def _module(case: Case, dtype: Any) -> Any:
    if isinstance(case.sizes, Encoder):
        return encoder_module(case.sizes, dtype)
    return decoder_module(case.sizes, dtype, case.past is not None)


def graph(case: Case) -> bytes:
    """Its ONNX file."""
    if isinstance(case.sizes, Encoder):
        return bytes(encoder_graph(case.sizes).SerializeToString())
    return bytes(decoder_graph(case.sizes, case.past is not None).SerializeToString())


def _options(case: Case) -> Options:
    """Kernels are chosen for the case's sizes, as the peer's are."""
    typical = {"batch": case.batch, "seq": case.seq}
    if case.past is not None:
        typical = {"batch": case.batch, "past": case.past}
    return Options(targets=("sm_90a",), max_error=1e-2, typical=typical)


def _timed(runs: Sequence[Callable[[], object]]) -> tuple[float, float]:
    """Median microseconds of one run on the device and of queueing it on the host; the runs take
    turns in the current stream."""
    import torch

    for _ in range(3):
        for run in runs:
            run()
    torch.cuda.synchronize()
    begun = time.perf_counter()
    for run in runs:
        run()
    torch.cuda.synchronize()
    once = (time.perf_counter() - begun) / len(runs)
    rounds = max(1, round(_ROUND_SECONDS / once / len(runs)))
    device, host = [], []
    for _ in range(_REPEATS):
        first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        first.record()
        for _ in range(rounds):
            for run in runs:
                run()
        last.record()
        last.synchronize()
        device.append(first.elapsed_time(last) * 1e3 / rounds / len(runs))
        # Few at a time: a long queue would make the host wait.
        begun = time.perf_counter()
        for run in runs:
            run()
        host.append((time.perf_counter() - begun) / len(runs) * 1e6)
        torch.cuda.synchronize()
    return statistics.median(device), statistics.median(host)


def _error(found: Any, wanted: Any) -> float:
    import torch

    found = torch.as_tensor(found).double().to(wanted.device)
    return float((found - wanted).norm() / wanted.norm())


def _reference(case: Case, tensors: dict[str, Any]) -> Any:
    """The first output in float64."""
    import torch

    wide = {k: v.double() if v.is_floating_point() else v for k, v in tensors.items()}
    found = _module(case, torch.float64)(**wide)
    return found[0] if isinstance(found, tuple) else found


def _tensors(case: Case) -> list[dict[str, Any]]:
    import torch

    sets = [inputs(case, seed) for seed in range(SETS)]
    return [{k: torch.from_numpy(v).cuda() for k, v in one.items()} for one in sets]


def measure(case: Case, path: Path, peer: tuple[float, float] | None) -> Row:
    """Check and time the artifact of a case. peer: what `measure_peer` found."""
    import torch

    tensors = _tensors(case)
    arrays = [inputs(case, seed) for seed in range(SETS)]
    with torch.no_grad(), Session(path) as session, torch.cuda.stream(torch.cuda.Stream()):
        stream = torch.cuda.current_stream().cuda_stream
        error = _error(session.run(None, arrays[0])[0], _reference(case, tensors[0]))
        runs: list[Callable[[], object]] = []
        for one in tensors:
            binding = cast(DeviceBinding, session.bind())
            for name, tensor in one.items():
                binding.bind_input(name, tensor)
            for output in session.get_outputs():
                binding.bind_output(output.name)
            runs.append(partial(binding.run, stream))
        device, queue = _timed(runs)
        begun = time.perf_counter()
        for i in range(_HOST_RUNS):
            session.run(None, arrays[i % SETS])
        host = (time.perf_counter() - begun) / _HOST_RUNS * 1e6
        profile = session.profile(arrays[0], runs=5)
        loop = None if case.past is None else _loop(session, tensors[0], stream)
    theirs, theirs_error = peer or (None, None)
    return Row(
        case.name,
        device,
        queue,
        host,
        len(profile),
        sum(row.ms for row in profile) / 5 * 1e3,
        loop,
        error,
        theirs,
        theirs_error,
        None if theirs is None else theirs / device,
    )


def _loop(session: Session, tensors: dict[str, Any], stream: int) -> float:
    """Microseconds of a step, over steps that feed their caches back."""
    import torch

    binding = cast(DeviceBinding, session.bind())
    for name, tensor in tensors.items():
        binding.bind_input(name, tensor)
    for output in session.get_outputs():
        binding.bind_output(output.name)
    for step in range(2 * _STEPS):
        if step == _STEPS:
            torch.cuda.synchronize()
            begun = time.perf_counter()
        _, k, v = binding.run(stream)
        binding.bind_input("past_k", k)
        binding.bind_input("past_v", v)
    binding.synchronize()
    return (time.perf_counter() - begun) / _STEPS * 1e6


def measure_peer(case: Case, lock: Path) -> tuple[float, float]:
    """Microseconds and error of torch.compile, in bf16 with CUDA graphs; the GPU is used while
    `lock` is held."""
    import torch

    case.sizes.weights()
    with lock.open("w") as file:
        flock(file, LOCK_EX)
        tensors = _tensors(case)
        module = torch.compile(_module(case, torch.bfloat16), mode="max-autotune", dynamic=False)
        given = [
            {k: v.bfloat16() if v.is_floating_point() else v for k, v in one.items()}
            for one in tensors
        ]
        with torch.no_grad():
            for _ in range(3):
                found = module(**given[0])
            found = found[0] if isinstance(found, tuple) else found
            error = _error(found, _reference(case, tensors[0]))
            device, _ = _timed([partial(module, **one) for one in given])
    return device, error


def _peer_alone(case: Case, lock: Path, end: float) -> tuple[float, float] | None:
    """`measure_peer` in a process of its own; None if it has not ended at `end`."""
    command = [sys.executable, "-m", "tilewright.tools.bench_gpu_models"]
    command += ["--peer", case.name, "--lock", str(lock)]
    left = end - time.monotonic()
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=max(left, 0.1), check=True
        )
    except subprocess.TimeoutExpired:
        print(f"{case.name}: no time left for torch.compile", flush=True)
        return None
    except subprocess.CalledProcessError as failure:
        said = failure.stderr.strip().splitlines()[-1:]
        print(f"{case.name}: torch.compile failed: {' '.join(said)}", flush=True)
        return None
    device, error = json.loads(done.stdout.splitlines()[-1])
    return device, error


def _compile(case: Case, path: Path) -> None:
    compile_model(graph(case), path, _options(case))


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a table and write it with `--output`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", help="names, separated by commas; all of them otherwise")
    parser.add_argument("--output", type=Path, help="JSON file to write")
    parser.add_argument(
        "--peer-seconds", type=float, default=300, help="for torch.compile, all cases together"
    )
    parser.add_argument("--peer", help="measure torch.compile alone on one case")
    parser.add_argument("--lock", type=Path, help="file that is locked while --peer uses the GPU")
    given = parser.parse_args(arguments)
    cases = {case.name: case for case in CASES}
    if given.peer:
        print(json.dumps(measure_peer(cases[given.peer], given.lock)))
        return
    chosen = [cases[name] for name in given.cases.split(",")] if given.cases else CASES
    rows = []
    print("case, us on the device, to queue, from numpy, launches, their sum, error, torch, ratio")
    with (
        tempfile.TemporaryDirectory() as folder,
        ProcessPoolExecutor(mp_context=get_context("spawn")) as pool,
        ThreadPoolExecutor(2) as starters,
    ):
        paths = [Path(folder) / f"{case.name}.tw" for case in chosen]
        # Compiling goes on beside torch.compile: it takes none of the GPU's time. Of two processes
        # of the peer one has the GPU, the other one starts.
        made = [pool.submit(_compile, *pair) for pair in zip(chosen, paths, strict=True)]
        end = time.monotonic() + given.peer_seconds
        lock = Path(folder) / "lock"
        peers = list(starters.map(lambda case: _peer_alone(case, lock, end), chosen))
        for one in made:
            one.result()
        for case, path, peer in zip(chosen, paths, peers, strict=True):
            row = measure(case, path, peer)
            rows.append(row)
            theirs = "" if row.peer is None else f"{row.peer:8.1f} {row.ratio:6.2f}"
            theirs += "" if row.loop is None else f"  a step of a loop {row.loop:.1f}"
            print(
                f"{row.case:20} {row.device:8.1f} {row.queue:6.1f} {row.host:8.1f} "
                f"{row.launches:4d} {row.launch_sum:8.1f} {row.error:9.2e} {theirs}",
                flush=True,
            )
            if given.output is not None:
                command = "python -m tilewright.tools.bench_gpu_models"
                record(given.output, rows, command=command, notes="bf16, random weights")


if __name__ == "__main__":
    main()

"""Whole models on a GPU beside torch.compile: python -m tilewright.tools.bench_gpu_models

Every model has random weights; both compute in bf16 (this compiler within 1e-2 of f32) and are
compared with PyTorch in float64. Times are of CUDA events around runs with arrays on the device,
which take turns among several sets of inputs; the peer is torch.compile with mode max-autotune,
which runs as CUDA graphs.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, cast

from tilewright.runtime.cuda.binding import DeviceBinding
from tilewright.runtime.session import Session
from tilewright.tools.bench.gpu_model_cases import CASES, Case, compile_case, inputs
from tilewright.tools.bench.gpu_peers import Peers, answer
from tilewright.tools.bench.record import record
from tilewright.tools.bench.transformer_graphs import Encoder
from tilewright.tools.bench.transformer_modules import decoder_module, encoder_module

SETS = 4
"""Inputs that runs take turns with."""
_REPEATS = 9
_HOST_RUNS = 50
_STEPS = 50
_ROUND_SECONDS = 0.05
PEER_THREADS = 7
"""In which a peer compiles; two do so at a time."""


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


def _module(case: Case, dtype: Any) -> Any:
    if isinstance(case.sizes, Encoder):
        return encoder_module(case.sizes, dtype)
    return decoder_module(case.sizes, dtype, case.past is not None)


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


def measure(case: Case, path: Path, peer: dict[str, float] | None) -> Row:
    """Check and time the artifact of a case. peer: what `serve_peer` found."""
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
    theirs, theirs_error = (None, None) if peer is None else (peer["microseconds"], peer["error"])
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


def serve_peer(case: Case) -> None:
    """torch.compile of a case, in bf16 with CUDA graphs: microseconds and error, as `gpu_peers`
    asks for them."""
    import torch
    from torch._inductor import config as inductor

    inductor.compile_threads = PEER_THREADS
    tensors = _tensors(case)
    module = torch.compile(_module(case, torch.bfloat16), mode="max-autotune", dynamic=False)
    given = [
        {k: v.bfloat16() if v.is_floating_point() else v for k, v in one.items()} for one in tensors
    ]

    def measure() -> dict[str, float]:
        with torch.no_grad():
            found = module(**given[0])
            found = found[0] if isinstance(found, tuple) else found
            error = _error(found, _reference(case, tensors[0]))
            device, _ = _timed([partial(module, **one) for one in given])
        return {"microseconds": device, "error": error}

    with torch.no_grad():
        for _ in range(3):
            module(**given[0])
        torch.cuda.synchronize()
    answer(measure)


def _peers(cases: Sequence[Case], seconds: float) -> Peers:
    """torch.compile of what has none of our numerics alone."""
    names = list(dict.fromkeys(case.peer for case in cases))
    command = (sys.executable, "-m", "tilewright.tools.bench_gpu_models", "--peer")
    return Peers(names if seconds > 0 else [], lambda name: (*command, name), seconds)


def _wait(gate: Path, seconds: float) -> None:
    """Until there is a file, but no longer."""
    end = time.monotonic() + seconds
    while not gate.exists() and time.monotonic() < end:
        time.sleep(0.2)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a table and write it with `--output`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", help="names, separated by commas; all of them otherwise")
    parser.add_argument("--output", type=Path, help="JSON file to write")
    parser.add_argument(
        "--peer-seconds", type=float, default=300, help="to compile the peers; 0: without"
    )
    parser.add_argument("--peer", help="answer for torch.compile of one case, see gpu_peers")
    parser.add_argument("--work", type=Path, help="keep artifacts here for the next call")
    parser.add_argument("--compile-only", action="store_true", help="measure nothing")
    parser.add_argument("--gate", type=Path, help="time nothing before this file is there")
    given = parser.parse_args(arguments)
    cases = {case.name: case for case in CASES}
    if given.peer:
        serve_peer(cases[given.peer])
        return
    chosen = [cases[name] for name in given.cases.split(",")] if given.cases else CASES
    with tempfile.TemporaryDirectory() as folder:
        work = given.work or Path(folder)
        work.mkdir(parents=True, exist_ok=True)
        paths = [work / f"{case.name}.tw" for case in chosen]
        # Compiling goes on beside torch.compile: it takes none of the GPU's time.
        with _peers(chosen, 0 if given.compile_only else given.peer_seconds) as peers:
            with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
                made = [
                    pool.submit(compile_case, *pair) for pair in zip(chosen, paths, strict=True)
                ]
                for one in made:
                    one.result()
            if given.compile_only:
                return
            peers.wait()
            if given.gate is not None:
                _wait(given.gate, given.peer_seconds)
            _measure_all(chosen, paths, peers if given.peer_seconds else None, given.output)


def _measure_all(
    chosen: Sequence[Case], paths: Sequence[Path], peers: Peers | None, output: Path | None
) -> None:
    rows: list[Row] = []
    known: dict[str, dict[str, float] | str] = {}
    print("case, us on the device, to queue, from numpy, launches, their sum, error, torch, ratio")
    for case, path in zip(chosen, paths, strict=True):
        if peers is not None and case.peer not in known:
            known[case.peer] = peers.measure(case.peer)
        peer = known.get(case.peer, "")
        row = measure(case, path, None if isinstance(peer, str) else peer)
        rows.append(row)
        theirs = f"torch.compile {peer}" if isinstance(peer, str) and peer else ""
        theirs = theirs if row.peer is None else f"{row.peer:8.1f} {row.ratio:6.2f}"
        theirs += "" if row.loop is None else f"  a step of a loop {row.loop:.1f}"
        print(
            f"{row.case:24} {row.device:8.1f} {row.queue:6.1f} {row.host:8.1f} "
            f"{row.launches:4d} {row.launch_sum:8.1f} {row.error:9.2e} {theirs}",
            flush=True,
        )
        if output is not None:
            command = "python -m tilewright.tools.bench_gpu_models"
            record(output, rows, command=command, notes="random weights; the peer in bf16")


if __name__ == "__main__":
    main()

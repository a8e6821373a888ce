"""Matrix products of a model, one by one: our kernel beside oneDNN's through PyTorch.

PyTorch reads no ONNX files, so a whole model cannot be timed in it without another package; its
linear layers can, and they are where the time goes. Weights stay where the last call left them, on
both sides; PyTorch gets a plain (not pre-packed) weight, as a module holds it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from tilewright.backends.cost.model import predict
from tilewright.backends.kernels.candidates import Candidate, allowed, candidates
from tilewright.backends.kernels.tasks import MatmulTask
from tilewright.backends.llvm.jit import load
from tilewright.backends.profile import MachineProfile
from tilewright.backends.target import Target
from tilewright.runtime.expressions import evaluate
from tilewright.tools.bench.launches import Launch, compile_family, launch
from tilewright.tools.bench.peer_process import PeerProcess
from tilewright.tools.bench.timing import Elapsed, interleave

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Layer:
    """C[m, n] = A[m, k] B[k, n] with constant B, ``count`` times in the model."""

    m: int
    k: int
    n: int
    count: int


@dataclass(frozen=True)
class LayerTime:
    """Median ms of a layer by contender, and operations/s of ours as a fraction of its unit's."""

    layer: Layer
    kernel: str
    ms: Mapping[str, float]
    ratio: Mapping[str, float]


def layers(plan: Mapping[str, Any], dims: Mapping[str, int]) -> tuple[Layer, ...]:
    """The distinct products with constant weights of a variant's plan.json entry, at sizes
    ``dims``; the ones with most operations first."""
    found: dict[tuple[int, int, int], int] = {}
    for choice in (plan.get("selection") or {}).get("choices", ()):
        task = re.match(r"matmul k=(\d+) n=(\d+)", choice["task"])
        if task is not None:
            shape = (evaluate(choice["dims"][0], dims), int(task[1]), int(task[2]))
            found[shape] = found.get(shape, 0) + len(choice["sources"])
    ordered = sorted(found.items(), key=lambda item: -item[1] * np.prod(item[0], dtype=float))
    return tuple(Layer(*shape, count) for shape, count in ordered)


def best(layer: Layer, target: Target, profile: MachineProfile, error: float | None) -> Candidate:
    """The kernel that the cost model takes for a layer within an error bound."""
    known = candidates(MatmulTask(layer.k, layer.n), target, allowed(error))
    dims = (layer.m, layer.k, layer.n)
    return min(known, key=lambda c: predict(c.family, c.spec, dims, target, profile, cold=False))


def time_layers(
    found: Sequence[Layer],
    target: Target,
    profile: MachineProfile,
    error: float | None,
    peers: Mapping[str, tuple[str, Mapping[str, str]]],
    rounds: int,
    budget: float,
) -> Iterator[LayerTime]:
    """Each layer on one thread, our kernel and the ``peers`` in turn: label to PyTorch's element
    type and the environment that keeps it to an instruction set (empty: none)."""
    with TemporaryDirectory(prefix="tilewright-") as folder:
        for layer in found:
            chosen = best(layer, target, profile, error)
            code = compile_family(chosen.family.name, [chosen.spec], target, Path(folder))
            kernel = load(code.read_bytes(), target).kernel("kernel0")
            task = MatmulTask(layer.k, layer.n)
            ours = launch(chosen, task, (layer.m, layer.k, layer.n), kernel, cold=False)
            contenders: dict[str, Callable[[], object]] = {chosen.family.name: partial(_ours, ours)}
            with ExitStack() as stack:
                for label, (precision, environment) in peers.items():
                    opens = partial(torch_linear, layer, precision)
                    if environment:
                        process = PeerProcess(opens, environment)
                        stack.callback(process.close)
                        process.set({})
                        contenders[label] = partial(_theirs, process)
                    else:
                        contenders[label] = partial(opens(), {})
                times = interleave(contenders, rounds=rounds, budget_s=budget / max(len(found), 1))
            own = times[chosen.family.name]
            yield LayerTime(
                layer,
                chosen.family.name,
                {name: timing.median_ms for name, timing in times.items()},
                {name: timing.ratio for name, timing in times.items() if timing is not own},
            )


def _ours(kernel: Launch) -> Elapsed:
    return Elapsed(int(kernel.run() * 1e9))


def _theirs(process: PeerProcess) -> Elapsed:
    return Elapsed(process.run())


def torch_linear(layer: Layer, precision: str) -> Callable[[Mapping[str, Array]], list[Array]]:
    """A run of PyTorch's layer in f32 or bf16 on one thread; feeds are ignored."""
    import torch

    torch.set_num_threads(1)
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(layer.m, layer.k, generator=generator).to(dtype)
    b = torch.randn(layer.n, layer.k, generator=generator).to(dtype)

    def run(_feeds: Mapping[str, Array]) -> list[Array]:
        with torch.inference_mode():
            torch.nn.functional.linear(a, b)
        return []

    return run

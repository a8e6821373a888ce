"""Products of few rows on the GPU beside cuBLAS: `python -m tilewright.tools.bench_gpu_weights`.

C[M, N] = A[M, K] x B[K, N] with B of 4 and 8 bits by groups, f16 and f32, M in 1, 8, 16, 64, K and
N in 4096, 14336, and cuBLAS (through PyTorch) in f16. A and C are f32, as models get and give them,
or bf16 (`w4-g128/bf16`), as kernels under a bound of 1e-2 hand them on. Both sides are CUDA graphs
of 12 launches or more over copies of B (3 times the L2), random numbers, replayed in turn; times
are medians of replays. The floor is the bytes of B, A and C at the bandwidth that a copy reaches.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from tilewright.backends.cuda.kernel import CudaKernel
from tilewright.backends.kernels.family import KernelFamily, evaluate
from tilewright.backends.kernels.grouped_mma import GroupedMmaSpec
from tilewright.backends.kernels.mma_matmul import MmaMatmulSpec
from tilewright.backends.kernels.registry import family
from tilewright.backends.kernels.simt_matmul import SimtMatmulSpec
from tilewright.backends.target import lookup
from tilewright.compiler.formats import Encoded, named
from tilewright.compiler.formats.integers import Integers
from tilewright.tools.bench.gpu_builds import Built, add_options, build
from tilewright.tools.bench.gpu_kernels import Device, Prepared

ROWS = (1, 8, 16, 64)
SIZES = (4096, 14336)
SHAPES = tuple((n, k) for n in SIZES for k in SIZES)
L2 = 60 << 20

LAUNCHES = 12
"""Of a graph at least: its beginning, some microseconds, is shared by all."""

COPIED = 4.3e12
"""Bytes a second, read and written, of a copy on an H200."""

KINDS = ("w4-g128", "w4-g128/bf16", "f16")
"""Of weights and, after a stroke, of A and C."""

PATTERN = 256
"""Columns of the matrix that B repeats: the check needs to know no more."""

LARGEST_ERRORS = {"f32": 1e-4, "bf16": 3e-3}
"""Relative, in the L2 norm, to what is computed from operands rounded as the kernel does, by the
format of C."""


def spec_of(kind: str, k: int, n: int) -> tuple[str, Any]:
    """Family and spec of a kind of weights: f32, f16 or the name of a format, behind which may be
    that of A and C."""
    if kind == "f32":
        return "simt_matmul", SimtMatmulSpec(k, n)
    if kind == "f16":
        return "mma_matmul", MmaMatmulSpec(k, n, "f16")
    form, handed = named(kind.partition("/")[0]), handed_on(kind)
    assert isinstance(form, Integers), kind
    return "grouped_mma", GroupedMmaSpec(k, n, form, a=handed, c=handed)


def handed_on(kind: str) -> str:
    """The format of A and C."""
    return kind.partition("/")[2] or "f32"


def make(job: tuple[str, int, int]) -> CudaKernel:
    """The kernel of a kind at a shape."""
    name, spec = spec_of(*job)
    found = family(name)
    assert found.cuda is not None
    return found.cuda(spec, lookup("sm_90a"), "product")


def codes(form: Integers, k: int, draw: np.random.Generator) -> Encoded:
    """Random codes, scales and zero points for PATTERN columns."""
    shape, top = (form.groups(k), PATTERN), 2**form.bits
    scales = draw.uniform(0.5, 1.0, shape).astype(np.float16).astype(np.float32) / top
    zeros = draw.integers(0, top, shape).astype(np.uint8)
    drawn = draw.integers(0, top, (k, PATTERN)).astype(np.uint8)
    return Encoded((k, PATTERN), {"codes": drawn, "scales": scales, "zeros": zeros})


class Weights:
    """B of one kind, as often as the L2 is exceeded, and the columns that it repeats."""

    def __init__(self, kind: str, k: int, n: int) -> None:
        import torch

        self.kind, self.k, self.n = kind, k, n
        name, spec = spec_of(kind, k, PATTERN)
        found = family(name)
        assert found.pack is not None
        draw = np.random.default_rng(0)
        if isinstance(spec, GroupedMmaSpec):
            encoded = codes(spec.format, k, draw)
            packed, self.columns = found.pack(encoded, spec), spec.format.decode(encoded)
        else:
            self.columns = draw.standard_normal((k, PATTERN)).astype(np.float16).astype(np.float32)
            packed = found.pack(self.columns, spec)
        packed = packed.reshape(-1).view(np.uint8)
        one = torch.from_numpy(packed).cuda().repeat(n // PATTERN)
        self.bytes = one.numel()
        self.sets = [one.clone() for _ in range(max(2, -(-3 * L2 // self.bytes)))]

    def expected(self, a: Any) -> Any:
        """The first PATTERN columns of C in f64."""
        import torch

        rounded = {"f32": a, "f16": a.half()}.get(self.kind, a.bfloat16()).double()
        return rounded @ torch.from_numpy(self.columns).cuda().double()


def often(launches: list[Callable[[int], None]]) -> list[Callable[[int], None]]:
    """As many of them as a graph has at least, one after the other, again and again."""
    return launches * -(-LAUNCHES // len(launches))


def graph_of(launches: list[Callable[[int], None]]) -> Any:
    """A CUDA graph of all launches, one after the other."""
    import torch

    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for launch in launches:
            launch(stream.cuda_stream)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        for launch in launches:
            launch(stream.cuda_stream)
    return graph


def measure(graphs: list[tuple[Any, int]], replays: int = 15) -> list[float]:
    """Median microseconds of a launch of each graph of so many, replayed in turn."""
    import torch

    times: list[list[float]] = [[] for _ in graphs]
    for _ in range(replays):
        for (graph, count), found in zip(graphs, times, strict=True):
            first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            first.record()
            graph.replay()
            last.record()
            last.synchronize()
            found.append(first.elapsed_time(last) * 1e3 / count)
    return [statistics.median(found[2:]) for found in times]


def launches(
    device: Device, found: KernelFamily, built: Built, b: Weights, a: Any, c: Any
) -> list[Callable[[int], None]]:
    """One for each copy of B."""
    import torch

    kernel, code = built
    module, dims = device.load(code), (a.shape[0], b.k, b.n)
    units = evaluate(found.units(spec_of(b.kind, b.k, b.n)[1]), dims)
    status = torch.zeros(1, dtype=torch.int32, device="cuda")
    made: list[Callable[[int], None]] = []
    for packed in b.sets:
        operands = [a.data_ptr(), packed.data_ptr(), c.data_ptr()]
        size = device.workspace(kernel, device.values(operands, dims, units))
        work = torch.empty(size, dtype=torch.uint8, device="cuda")
        ready = device.prepare(
            module, kernel, "product", operands, dims, units, work.data_ptr(), status.data_ptr()
        )
        made.append(partial(_run, ready, (work, status)))
    return made


def _peer(a: Any, weights: Any, _stream: int) -> None:
    """cuBLAS, in the current stream."""
    a @ weights.T


def _run(ready: Prepared, _written: Any, stream: int) -> None:
    """Launches; what the launch writes to stays with it."""
    ready.run(stream)


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kinds", nargs="*", default=[*KINDS, "w8-g64", "f32"])
    add_options(parser)
    options = parser.parse_args()
    jobs = [(kind, k, n) for kind in options.kinds for n, k in SHAPES]
    built = build(make, "product", jobs, options.work)
    if options.compile_only:
        return
    import torch

    device = Device()
    torch.manual_seed(0)
    print("weights          M     N     K        us    cuBLAS f16  ratio     floor us      error")
    for n, k in SHAPES:
        halves = [
            torch.randn((n, k), device="cuda").half() for _ in range(-(-3 * L2 // (2 * n * k)))
        ]
        peers = {}
        for m in ROWS:
            a = torch.randn((m, k), device="cuda").half()
            calls = often([partial(_peer, a, w) for w in halves])
            # Calls hold what their graph reads; the next capture frees what nobody holds.
            peers[m] = graph_of(calls), calls
        for kind in options.kinds:
            b = Weights(kind, k, n)
            for m in ROWS:
                stored = {"f32": torch.float32, "bf16": torch.bfloat16}[handed_on(kind)]
                a = torch.randn((m, k), device="cuda").to(stored)
                c = torch.empty((m, n), dtype=stored, device="cuda")
                c.fill_(float("nan"))
                name = spec_of(kind, k, n)[0]
                runs = often(launches(device, family(name), built[kind, k, n], b, a, c))
                ours = graph_of(runs)
                exact = b.expected(a).repeat(1, n // PATTERN)
                error = float((c.double() - exact).norm() / exact.norm())
                if not error < LARGEST_ERRORS[handed_on(kind)]:
                    raise SystemExit(f"{kind} {m} {n} {k}: relative error {error}")
                theirs, calls = peers[m]
                mine, peer = measure([(ours, len(runs)), (theirs, len(calls))])
                floor = 1e6 * (b.bytes + a.nbytes + c.nbytes) / COPIED
                print(
                    f"{kind:13} {m:4}{n:6}{k:6} {mine:9.2f} {peer:13.2f} {peer / mine:6.2f} "
                    f"{floor:8.2f} ({100 * floor / mine:3.0f} %)  {error:.1e}",
                    flush=True,
                )


if __name__ == "__main__":
    main()

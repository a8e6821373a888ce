"""Products on the GPU beside cuBLAS (through PyTorch): `python -m tilewright.tools.bench_gpu_gemm`.

C[M, N] = A[M, K] x B[N, K]^T in bf16 or f16 with sums in f32, on a sample of {64, ..., 16384}^3
that is even over buckets of M N K. Both sides are captured into CUDA graphs of launches that go
over sets of operands (3 times the L2, at most SETS), random numbers, measured in turn; times are
medians of replays. The ratio is that of the tile which a compilation takes. With --gelu
C = gelu(A B + bias): ours in one launch, PyTorch's product and then one elementwise kernel
(torch.compile). With --tiles 5 the five tiles that should be fastest are measured too.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any

from tilewright.backends.cuda.kernel import CudaKernel
from tilewright.backends.kernels.family import evaluate
from tilewright.backends.kernels.wgmma_matmul import FAMILY, WgmmaMatmulSpec, spec, tiles
from tilewright.backends.llvm.epilogue import IDENTITY, Epilogue, Extra, Step
from tilewright.backends.target import lookup
from tilewright.tools.bench.gpu_builds import Built, add_options, build
from tilewright.tools.bench.gpu_kernels import Device

SIZES = (64, 128, 256, 512, 1024, 2048, 4096, 8192, 12288, 16384)
BUCKETS = (0, 24, 28, 32, 36, 64)
"""Powers of two of M N K between which a bucket lies."""

SETS = 96
L2 = 60 << 20

GELU = Epilogue((Extra("row"),), (Step("add", (0, 1)), Step("gelu_tanh", (2,))), 3)

LARGEST_ERROR = 1e-2
"""Relative, in the L2 norm."""

Shape = tuple[int, int, int]
Times = list[float]


def sample(each: int, seed: int = 0) -> list[Shape]:
    """``each`` shapes (M, N, K) of every bucket."""
    draw = random.Random(seed)
    every = [(m, n, k) for m in SIZES for n in SIZES for k in SIZES]
    found = []
    for low, high in pairwise(BUCKETS):
        inside = [s for s in every if 1 << low <= s[0] * s[1] * s[2] < 1 << high]
        found += draw.sample(inside, min(each, len(inside)))
    return found


def bucket(shape: Shape) -> str:
    """Name of the bucket of a shape."""
    size = shape[0] * shape[1] * shape[2]
    low, high = next((a, b) for a, b in pairwise(BUCKETS) if size < 1 << b)
    return f"2^{low}..2^{high}"


def make(spec: WgmmaMatmulSpec) -> CudaKernel:
    """The kernel of a spec."""
    assert FAMILY.cuda is not None
    return FAMILY.cuda(spec, lookup("sm_90a"), "product")


@cache
def activation() -> Any:
    """gelu(x + bias) as one kernel of PyTorch's compiler, for any shape."""
    import torch

    return torch.compile(
        lambda x, bias: torch.nn.functional.gelu(x + bias, approximate="tanh"), dynamic=True
    )


class Bench:
    """Operands of one shape and the graphs over them."""

    def __init__(self, device: Device, shape: Shape, element: str) -> None:
        import torch

        self.torch, self.device, self.shape = torch, device, shape
        m, n, k = shape
        kind = {"bf16": torch.bfloat16, "f16": torch.float16}[element]
        size = 2 * (m * k + n * k + m * n)
        self.sets = max(2, min(SETS, -(-3 * L2 // size)))
        self.a = torch.randn((self.sets, m, k), device="cuda", dtype=kind)
        self.b = torch.randn((self.sets, n, k), device="cuda", dtype=kind)
        self.c = torch.empty((self.sets, m, n), device="cuda", dtype=kind)
        self.bias = torch.randn(n, device="cuda", dtype=torch.float32)
        self.bias_low = self.bias.to(kind)
        self.keep: list[Any] = []

    def graph(self, launch: Callable[[int], None]) -> Any:
        """Of ``launch`` on every set."""
        torch = self.torch
        stream = torch.cuda.Stream()
        with torch.cuda.stream(stream):
            for i in range(self.sets):
                launch(i)
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream):
            for i in range(self.sets):
                launch(i)
        return graph

    def peer(self, gelu: bool) -> Any:
        """PyTorch's product, and bias with GELU as one more kernel.

        What that gives lies in the graph's own memory: a tensor of ours outside of it would have to
        outlive the graph, since capturing another one hands unused memory back to the device.
        """
        activate = activation() if gelu else None

        def launch(i: int) -> None:
            self.torch.matmul(self.a[i], self.b[i].T, out=self.c[i])
            if activate is not None:
                activate(self.c[i], self.bias_low)

        return self.graph(launch)

    def ours(self, spec: WgmmaMatmulSpec, kernel: CudaKernel, code: bytes) -> Any:
        """The kernel of ``spec``."""
        torch, device = self.torch, self.device
        m, n, k = self.shape
        module = device.load(code)
        dims = (m, k, n)
        units = evaluate(FAMILY.units(spec), dims)
        prepared, status = [], torch.zeros(1, dtype=torch.int32, device="cuda")
        work = None
        for i in range(self.sets):
            extras = [self.bias.data_ptr()] if spec.epilogue.extras else []
            operands = [self.a[i].data_ptr(), self.b[i].data_ptr(), *extras, self.c[i].data_ptr()]
            if work is None:
                size = device.workspace(kernel, device.values(operands, dims, units))
                work = torch.empty(max(size, 1), dtype=torch.uint8, device="cuda")
            prepared.append(
                device.prepare(
                    module,
                    kernel,
                    "product",
                    operands,
                    dims,
                    units,
                    work.data_ptr(),
                    status.data_ptr(),
                )
            )
        self.keep += [prepared, module, work, status]
        return self.graph(lambda i: prepared[i].run(torch.cuda.current_stream().cuda_stream))

    def measure(self, graphs: list[Any], budget: float = 0.06, least: int = 5) -> list[float]:
        """Median microseconds of a launch of each, replayed in turn."""
        torch = self.torch
        times: list[Times] = [[] for _ in graphs]
        begin = time.perf_counter()
        while len(times[0]) < least or (
            time.perf_counter() - begin < budget * len(graphs) and len(times[0]) < 30
        ):
            for graph, found in zip(graphs, times, strict=True):
                first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
                first.record()
                graph.replay()
                last.record()
                last.synchronize()
                found.append(first.elapsed_time(last) * 1e3 / self.sets)
        return [statistics.median(found) for found in times]

    def error(self, gelu: bool) -> float:
        """Relative L2 error of the last set of C against f32 (f64 where that is small)."""
        torch = self.torch
        kind = torch.float64 if self.shape[0] * self.shape[1] * self.shape[2] < 1 << 33 else None
        a, b = (x[-1].to(kind or torch.float32) for x in (self.a, self.b))
        exact = a @ b.T
        if gelu:
            exact = torch.nn.functional.gelu(exact + self.bias.to(exact.dtype), approximate="tanh")
        return float((self.c[-1].to(exact.dtype) - exact).norm() / exact.norm())


def choices(shape: Shape, options: argparse.Namespace) -> list[WgmmaMatmulSpec]:
    """Specs for a shape, the one that a compilation would take first."""
    m, n, k = shape
    kind = options.element
    epilogue = GELU if options.gelu else IDENTITY
    start = WgmmaMatmulSpec(k, n, 1, kind, epilogue, kind, kind, spec.start(1))
    every = tiles.variants(start, lookup("sm_90a"))
    return sorted(every, key=lambda one: tiles.microseconds(one, m))[: options.tiles]


@dataclass(frozen=True)
class Measured:
    """Microseconds of a launch and of the peer's, and our error."""

    spec: WgmmaMatmulSpec
    ours: float
    peer: float
    error: float

    def text(self, shape: Shape) -> str:
        """A line."""
        tile = self.spec.tile
        rate = 2e-6 * shape[0] * shape[1] * shape[2] / self.ours
        way = "together" if tile.together else "in turn"
        parts = f", {tile.split} parts{' within' if tile.within else ''}" if tile.split > 1 else ""
        return (
            f"{shape[0]:6}{shape[1]:6}{shape[2]:6} {self.ours:9.2f} {self.peer:9.2f} us "
            f"{self.peer / self.ours:6.3f} {rate:5.0f} TFLOP/s  {self.error:.1e}  "
            f"{tile.rows}x{tile.columns} {tile.stages} stages, {tile.groups} {way}, "
            f"clusters of {tile.cluster}, raster {tile.raster}{parts}"
        )


def compare(
    device: Device,
    shape: Shape,
    options: argparse.Namespace,
    built: dict[WgmmaMatmulSpec, Built],
) -> Measured:
    """Measures a shape; the choice's figures, those of other tiles are printed."""
    bench = Bench(device, shape, options.element)
    peer = bench.peer(options.gelu)
    found = []
    for one in choices(shape, options):
        mine = bench.ours(one, *built[one])
        bench.c.fill_(float("nan"))
        mine.replay()
        error = bench.error(options.gelu)
        theirs, ours = bench.measure([peer, mine], 0.06 if options.tiles == 1 else 0.02)
        found.append(Measured(one, ours, theirs, error))
        if options.tiles > 1:
            print("  " + found[-1].text(shape), flush=True)
    worst = max(one.error for one in found)
    if not worst < LARGEST_ERROR:
        raise SystemExit(f"{shape}: relative error {worst}")
    return found[0]


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--each", type=int, default=12, help="shapes of each bucket")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--element", default="bf16", choices=("bf16", "f16"))
    parser.add_argument("--gelu", action="store_true")
    parser.add_argument("--tiles", type=int, default=1, help="measure so many, the first is taken")
    parser.add_argument("--seconds", type=float, default=1e9, help="stop after")
    add_options(parser)
    options = parser.parse_args()
    shapes = sample(options.each, options.seed)
    random.Random(1).shuffle(shapes)
    started = time.perf_counter()
    every = list(dict.fromkeys(one for shape in shapes for one in choices(shape, options)))
    built = build(make, "product", every, options.work)
    if options.compile_only:
        return
    device = Device()
    ratios: dict[str, list[float]] = {}
    for shape in shapes:
        if time.perf_counter() - started > options.seconds:
            print("out of time")
            break
        found = compare(device, shape, options, built)
        print(found.text(shape), flush=True)
        ratios.setdefault(bucket(shape), []).append(found.peer / found.ours)
    for name in sorted(ratios):
        values = ratios[name]
        print(f"{name:12} {len(values):3} {statistics.geometric_mean(values):.3f}")
    flat = [value for values in ratios.values() for value in values]
    print(f"{'all':12} {len(flat):3} {statistics.geometric_mean(flat):.3f}")


if __name__ == "__main__":
    main()

"""Weights with zeros anywhere on the GPU beside cuBLAS's dense product (by PyTorch), and ours.

C[M, N] = A[M, K] x B[K, N] in bf16, sums in f32: `python -m tilewright.tools.bench_gpu_bitmaps`.
As in `bench_gpu_gemm`, all sides are graphs of launches over sets of operands, measured in turn.
"""

from __future__ import annotations

import argparse
import statistics
import time
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from tilewright.backends.cuda.kernel import CudaKernel
from tilewright.backends.kernels.bitmap_mma import FAMILY, BitmapMmaSpec
from tilewright.backends.kernels.bitmap_mma.cost import nanoseconds
from tilewright.backends.kernels.bitmap_mma.packing import pack
from tilewright.backends.kernels.bitmap_mma.spec import even
from tilewright.backends.kernels.family import evaluate
from tilewright.backends.kernels.wgmma_matmul import FAMILY as DENSE
from tilewright.backends.kernels.wgmma_matmul import WgmmaMatmulSpec
from tilewright.backends.kernels.wgmma_matmul import tiles as dense_tiles
from tilewright.backends.kernels.wgmma_matmul.spec import start
from tilewright.backends.target import lookup
from tilewright.tools.bench.gpu_builds import Built, add_options, build
from tilewright.tools.bench.gpu_kernels import Device
from tilewright.tools.bench_gpu_gemm import Bench

TARGET = "sm_90a"
ROWS = (1, 8, 16, 64, 128)
LARGEST_ERROR = 1e-2

Spec = BitmapMmaSpec | WgmmaMatmulSpec


@dataclass(frozen=True)
class Weights:
    """B [k, n], of which ``percent`` are not zero."""

    k: int
    n: int
    percent: int

    def matrix(self) -> np.ndarray:
        """f32 [k, n]."""
        rng = np.random.default_rng([self.k, self.n])
        w = rng.standard_normal((self.k, self.n), np.float32)
        w[rng.random(w.shape, np.float32) >= self.percent / 100] = 0
        return w


WEIGHTS = (Weights(4096, 4096, 50), Weights(4096, 4096, 30), Weights(4096, 14336, 50))


def make(spec: Spec) -> CudaKernel:
    """The kernel of a spec."""
    emit = FAMILY.cuda if isinstance(spec, BitmapMmaSpec) else DENSE.cuda
    assert emit is not None
    return emit(spec, lookup(TARGET), "product")


def dense(m: int, k: int, n: int) -> WgmmaMatmulSpec:
    """Our product with all weights."""
    first = WgmmaMatmulSpec(k, n, 1, "bf16", a="bf16", c="bf16", tile=start(1))
    return dense_tiles.fastest(first, m, lookup(TARGET))


@cache
def operands(weights: Weights) -> tuple[np.ndarray, BitmapMmaSpec, np.ndarray]:
    """B, its spec and packed B."""
    w = weights.matrix()
    spec = BitmapMmaSpec(weights.k, weights.n, *even(w != 0), a="bf16", c="bf16")
    return w, spec, pack(w, spec)


class BitmapBench(Bench):
    """Bench with B [N, K] with zeros, and packed copies of it; the same in all sets."""

    def __init__(self, device: Device, m: int, weights: Weights) -> None:
        super().__init__(device, (m, weights.n, weights.k), "bf16")
        w, self.spec, packed = operands(weights)
        self.b.copy_(self.torch.from_numpy(w).cuda().T)
        self.packed = [self.torch.from_numpy(packed).cuda() for _ in range(self.sets)]

    def run_of(self, kernel: CudaKernel, code: bytes, weights: Any) -> Any:
        """The graph of a kernel; ``weights``: packed B of every set."""
        torch, device = self.torch, self.device
        m, n, k = self.shape
        module, dims = device.load(code), (m, k, n)
        units = evaluate(FAMILY.units(self.spec), dims)
        status = torch.zeros(1, dtype=torch.int32, device="cuda")
        work, prepared = None, []
        for i in range(self.sets):
            places = [self.a[i].data_ptr(), weights[i].data_ptr(), self.c[i].data_ptr()]
            if work is None:
                size = device.workspace(kernel, device.values(places, dims, units))
                work = torch.empty(max(size, 1), dtype=torch.uint8, device="cuda")
            more = (work.data_ptr(), status.data_ptr())
            prepared.append(device.prepare(module, kernel, "product", places, dims, units, *more))
        self.keep += [prepared, module, work, status]
        return self.graph(lambda i: prepared[i].run(torch.cuda.current_stream().cuda_stream))


def compare(device: Device, m: int, weights: Weights, built: dict[Spec, Built]) -> float:
    """Prints a line; the speed against cuBLAS."""
    bench, (k, n) = BitmapBench(device, m, weights), (weights.k, weights.n)
    mine = bench.run_of(*built[bench.spec], bench.packed)
    bench.c[-1].fill_(float("nan"))
    mine.replay()
    error = bench.error(False)
    if not error < LARGEST_ERROR:
        raise SystemExit(f"{m} rows, {weights}: relative error {error}")
    graphs = [bench.peer(False), bench.run_of(*built[dense(m, k, n)], bench.b), mine]
    peer, whole, ours = bench.measure(graphs, 0.02)
    print(
        f"{m:6}{k:6}{n:6} {weights.percent:3} % {ours:8.2f} us "
        f"(arithmetic {nanoseconds(bench.spec, m) / 1e3:6.2f}, bytes "
        f"{bench.spec.packed_bytes / 4.3e6:6.2f}), cuBLAS dense {peer:8.2f} {peer / ours:6.3f}, "
        f"our dense {whole:8.2f} {whole / ours:6.3f}",
        flush=True,
    )
    return peer / ours


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=1e9, help="stop after")
    add_options(parser)
    options = parser.parse_args()
    started = time.perf_counter()
    every: list[Spec] = [operands(w)[1] for w in WEIGHTS]
    every += [dense(m, w.k, w.n) for w in WEIGHTS for m in ROWS]
    built = build(make, "product", every, options.work)
    if options.compile_only:
        return
    device, ratios = Device(), []
    for weights in WEIGHTS:
        for m in ROWS:
            if time.perf_counter() - started > options.seconds:
                print("out of time")
                return
            ratios.append(compare(device, m, weights, built))
    print(f"geometric mean of cuBLAS / bitmaps: {statistics.geometric_mean(ratios):.3f}")


if __name__ == "__main__":
    main()

"""2:4 weights on the GPU beside cuBLAS's dense product (through PyTorch), and ours.

C[M, N] = A[M, K] x B[K, N] in bf16 with sums in f32, B of two other than zero in every four:
`python -m tilewright.tools.bench_gpu_sparse`. As in `bench_gpu_gemm`, both sides are graphs of
launches over sets of operands, measured in turn. The time of each shape is that of the tile which a
compilation takes; with --tiles 20 all others are measured too, for the table of `tiles.py`.
"""

from __future__ import annotations

import argparse
import statistics
import time
from functools import lru_cache
from typing import Any

import numpy as np

from tilewright.backends.cuda.kernel import CudaKernel
from tilewright.backends.kernels.family import KernelFamily, evaluate
from tilewright.backends.kernels.wgmma_matmul import FAMILY as DENSE
from tilewright.backends.kernels.wgmma_matmul import WgmmaMatmulSpec
from tilewright.backends.kernels.wgmma_matmul import tiles as dense_tiles
from tilewright.backends.kernels.wgmma_matmul.spec import start
from tilewright.backends.kernels.wgmma_sparse_matmul import FAMILY, WgmmaSparseMatmulSpec, tiles
from tilewright.backends.kernels.wgmma_sparse_matmul.packing import pack
from tilewright.backends.target import lookup
from tilewright.tools.bench.gpu_builds import Built, add_options, build
from tilewright.tools.bench.gpu_kernels import Device
from tilewright.tools.bench_gpu_gemm import Bench, Shape

WEIGHTS = ((4096, 4096), (4096, 12288), (8192, 8192), (1024, 1024))
"""K, N."""
ROWS = (1, 16, 64, 128, 256, 512, 1024, 2048, 4096, 8192)
LARGEST_ERROR = 1e-2
TARGET = "sm_90a"

Spec = WgmmaSparseMatmulSpec | WgmmaMatmulSpec


def family(spec: Spec) -> KernelFamily:
    """Of a spec."""
    return FAMILY if isinstance(spec, WgmmaSparseMatmulSpec) else DENSE


def make(spec: Spec) -> CudaKernel:
    """The kernel of a spec."""
    emit = family(spec).cuda
    assert emit is not None
    return emit(spec, lookup(TARGET), "product")


def choices(shape: Shape, count: int) -> list[Spec]:
    """Specs of 2:4 weights for a shape, the one that a compilation would take first."""
    m, n, k = shape
    first = WgmmaSparseMatmulSpec(k, n, a="bf16", c="bf16")
    every = tiles.variants(first, lookup(TARGET))
    fitting = [one for one in every if one.tile.rows < 2 * m or one.tile.rows <= 64]
    return list(sorted(fitting, key=lambda one: tiles.microseconds(one, m))[:count])


def dense(shape: Shape) -> Spec:
    """Our product with all weights."""
    m, n, k = shape
    first = WgmmaMatmulSpec(k, n, 1, "bf16", a="bf16", c="bf16", tile=start(1))
    return dense_tiles.fastest(first, m, lookup(TARGET))


@lru_cache(1)
def weights(k: int, n: int) -> tuple[Any, Any]:
    """Random weights of two in four, bf16 [N, K], and packed, on the device."""
    import torch

    torch.manual_seed(0)
    full = torch.randn((n, k), device="cuda", dtype=torch.bfloat16)
    groups = full.view(n, -1, 4)
    order = torch.rand(groups.shape, device="cuda").argsort(-1).argsort(-1)
    groups.masked_fill_(order >= 2, 0)
    packed = pack(np.asarray(full.float().T.cpu()), WgmmaSparseMatmulSpec(k, n))
    return full, torch.from_numpy(packed).cuda()


class SparseBench(Bench):
    """Bench with B [N, K] as 2:4, and packed copies of it; the same in all sets."""

    def __init__(self, device: Device, shape: Shape) -> None:
        super().__init__(device, shape, "bf16")
        full, packed = weights(shape[2], shape[1])
        self.b.copy_(full)
        self.packed = [packed.clone() for _ in range(self.sets)]

    def run_of(self, spec: Spec, kernel: CudaKernel, code: bytes) -> Any:
        """The graph of a kernel."""
        torch, device = self.torch, self.device
        m, n, k = self.shape
        module, dims = device.load(code), (m, k, n)
        units = evaluate(family(spec).units(spec), dims)
        status = torch.zeros(1, dtype=torch.int32, device="cuda")
        work, prepared = None, []
        sparse = isinstance(spec, WgmmaSparseMatmulSpec)
        for i in range(self.sets):
            weights = self.packed[i] if sparse else self.b[i]
            operands = [self.a[i].data_ptr(), weights.data_ptr(), self.c[i].data_ptr()]
            if work is None:
                size = device.workspace(kernel, device.values(operands, dims, units))
                work = torch.empty(max(size, 1), dtype=torch.uint8, device="cuda")
            places = (work.data_ptr(), status.data_ptr())
            prepared.append(
                device.prepare(module, kernel, "product", operands, dims, units, *places)
            )
        self.keep += [prepared, module, work, status]
        return self.graph(lambda i: prepared[i].run(torch.cuda.current_stream().cuda_stream))


def compare(
    device: Device, shape: Shape, options: argparse.Namespace, built: dict[Spec, Built]
) -> float:
    """Prints a shape's lines; the speed of the choice against cuBLAS."""
    bench, found = SparseBench(device, shape), []
    specs = choices(shape, options.tiles)
    graphs = [bench.peer(False)]
    for one in (dense(shape), *specs):
        mine = bench.run_of(one, *built[one])
        bench.c[-1].fill_(float("nan"))
        mine.replay()
        error = bench.error(False)
        if not error < LARGEST_ERROR:
            raise SystemExit(f"{shape}, {one.tile}: relative error {error}")
        graphs.append(mine)
    budget = 0.02 if options.tiles == 1 else 0.006
    peer, whole, *found = bench.measure(graphs, budget)
    for one, ours in zip(specs, found, strict=True):
        tile = one.tile
        guess = tiles.microseconds(one, shape[0])  # type: ignore[arg-type]
        rate = 2e-6 * shape[0] * shape[1] * shape[2] / ours
        print(
            f"{shape[0]:6}{shape[1]:6}{shape[2]:6} 2:4 {ours:8.2f} us (predicted {guess:8.2f}), "
            f"cuBLAS dense {peer:8.2f} {peer / ours:6.3f}, our dense {whole:8.2f} "
            f"{whole / ours:6.3f}, {rate:5.0f} TFLOP/s as dense, {tile}",
            flush=True,
        )
    return peer / found[0]


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tiles", type=int, default=1, help="measure so many, the first is taken")
    parser.add_argument("--weights", type=int, default=len(WEIGHTS), help="so many of K, N")
    parser.add_argument("--seconds", type=float, default=1e9, help="stop after")
    add_options(parser)
    options = parser.parse_args()
    started = time.perf_counter()
    shapes = [(m, n, k) for k, n in WEIGHTS[: options.weights] for m in ROWS]
    every = [s for one in shapes for s in (dense(one), *choices(one, options.tiles))]
    built = build(make, "product", every, options.work)
    if options.compile_only:
        return
    device, ratios = Device(), []
    for shape in shapes:
        if time.perf_counter() - started > options.seconds:
            print("out of time")
            break
        ratios.append(compare(device, shape, options, built))
    print(f"geometric mean of cuBLAS / 2:4: {statistics.geometric_mean(ratios):.3f}")


if __name__ == "__main__":
    main()

"""Matmul in f16 or bf16 on GPUs with a constant right-hand side: C[M, N] f32 = epilogue(A x B).

By mma.m16n8k16, for every GPU from sm_80 on: A is rounded, products are exact and summed in f32.
B is streamed in the order of mma's operands (cuda/device/fewparts.cuh), once for every 64 rows;
many rows are for kernels with larger tiles.

Measured on an H200 before blocks kept A for several panels, f16, launches one after the other in a
CUDA graph over copies of B beyond the L2; us, in brackets cuBLAS:

    N x K           M = 1         M = 8         M = 64
    4096 x 4096     9.5 (13.7)   16.6 (13.8)    52 (12.5)
    14336 x 4096   30.1 (31.6)   34.4 (31.6)   103 (32.9)
    4096 x 14336   30.9 (32.4)   44.6 (36.1)   176 (36.9)
    512 x 2048      2.9 (5.8)     3.9 (6.0)     10.6 (5.9)

One row of the large ones is at 82 to 91 % of the bytes' time at 4.3 TB/s.
"""

from tilewright.backends.kernels.family import KernelFamily
from tilewright.backends.kernels.mma_matmul import cases, cost, cuda, packing, reference, spec
from tilewright.backends.kernels.mma_matmul.spec import MmaMatmulSpec

FAMILY = KernelFamily(
    name="mma_matmul",
    op="contraction",
    emit=None,
    cuda=cuda.kernel,
    reference=reference.run,
    units=spec.units,
    scratch_bytes=spec.scratch_bytes,
    cost=cost.estimate,
    cases=cases.cases,
    pack=packing.pack,
    unpack=packing.unpack,
    accuracy=spec.accuracy,
    candidates=spec.candidates,
    layout=spec.layout,
    shaped=cases.shaped,
    suits=packing.suits,
)

__all__ = ["FAMILY", "MmaMatmulSpec"]

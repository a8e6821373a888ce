"""Matmul with group-wise integer weights on GPUs: C[M, N] f32 = epilogue(A[M, K] x B[K, N]).

W4A16 and W8A16: B is s (q - z), codes of 4 or 8 bits (compiler.formats.integers); A is rounded to
bf16. q - z is exact in bf16, products are summed in f32 and multiplied by the scales there, so that
nothing but A and the sums is rounded. Formats that read A as 8-bit codes are read more precisely
than they say. Rows that are not finite may give NaN by 8-bit codes, whose halves are multiplied
apart. Packed B, in the order of the operands of mma.m16n8k16: cuda/device/fewparts.cuh.

Measured on an H200, 4 bits in groups of 128, launches one after the other in a CUDA graph over
copies of B beyond the L2; us, in brackets cuBLAS with B in f16:

    N x K           M = 1         M = 8         M = 16        M = 64
    4096 x 4096     5.0 (13.2)    7.5 (14.1)    9.2 (13.7)    43 (12.5)
    14336 x 4096   12.3 (31.8)   14.6 (32.3)   18.7 (32.1)    81 (34.0)
    4096 x 14336   11.4 (32.8)   19.0 (36.2)   24.3 (33.8)   129 (37.7)

One row is at 41 to 63 % of the bytes' time at 4.3 TB/s; 3 to 5 us of a launch are not bytes. More
rows take longer by reading A, in f32 and once for every block, which has not been taken apart.
Tried at 4096 x 4096 and M = 1: 16 warps a block 5.8 us, a block for every panel
5.2 to 5.6, blocks of the next launch started at once 5.9, clusters over K 6.3.
"""

from tilewright.backends.kernels.family import KernelFamily
from tilewright.backends.kernels.grouped_mma import cases, cost, cuda, packing, reference, spec
from tilewright.backends.kernels.grouped_mma.spec import GroupedMmaSpec

FAMILY = KernelFamily(
    name="grouped_mma",
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
    candidates=spec.candidates,
    layout=spec.layout,
    format=spec.name,
    shaped=cases.shaped,
)

__all__ = ["FAMILY", "GroupedMmaSpec"]

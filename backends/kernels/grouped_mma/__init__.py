"""Matmul with group-wise integer weights on GPUs: C[M, N] = epilogue(A[M, K] x B[K, N]).

W4A16 and W8A16: B is s (q - z), codes of 4 or 8 bits (compiler.formats.integers); A is rounded to
bf16, or is in bf16. q - z is exact in bf16, products are summed in f32 and multiplied by the scales
there, so that nothing but A and the sums is rounded, and numbers that are not finite give what they
give in f32. Formats that read A as 8-bit codes are read more precisely than they say. Packed B, in
the order of the operands of mma.m16n8k16: cuda/device/fewparts.cuh.

Of 4096 weights in groups of 128 (2144 bytes, 500 ns of a multiprocessor's share of 4.3 TB/s) a warp
issues, counted in machine code: 64 LOP3, 48 shifts (both on the pipe of integers, two cycles each:
224 of 880 cycles of a quarter of it), 64 exact subtractions, 16 multiplications and 4 loads of 16
bytes for each 8 rows, 280 instructions for 8 rows, 325 for 16, 500 to 535 for 64. Bytes are the
limit up to 16 rows (2.1 us of 4096 x 4096, 7.2 of 14336 x 4096), multiplications at 64 (1.3 times
the bytes' time); beside them a launch has a chain of about 2.3 us: the end of the launch before,
rows of A, sums.

Rows of A are what separates a launch from that: all blocks read the same rows through L2, at about
40 bytes a nanosecond and multiprocessor, so 16 rows of 4096 f32 that every block rounds take as
long as all codes. So blocks in pairs share K, f32 rows beyond 132 KiB a block are rounded once by a
launch before, and rows in bf16 are copied beside B as they are (cuda/fewshapes.py).

Measured on an H200 before that (rings of three, rounding in every block, half of K at most), 4 bits
in groups of 128, launches one after the other in a CUDA graph over copies of B beyond the L2; us,
in brackets cuBLAS with B in f16:

    N x K           M = 1         M = 8         M = 16        M = 64
    4096 x 4096     5.0 (13.2)    7.5 (14.1)    9.2 (13.7)    43 (12.5)
    14336 x 4096   12.3 (31.8)   14.6 (32.3)   18.7 (32.1)    81 (34.0)
    4096 x 14336   11.4 (32.8)   19.0 (36.2)   24.3 (33.8)   129 (37.7)

What has followed has run on CPUs alone, by tests that emulate a cluster. Tried at 4096 x 4096 and
M = 1: 16 warps a block 5.8 us, a block for every panel 5.2 to 5.6, blocks of the next launch
started at once 5.9 (they crowd where there are none), clusters over K 6.3.
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
    stored=spec.stored,
    shaped=cases.shaped,
)

__all__ = ["FAMILY", "GroupedMmaSpec"]

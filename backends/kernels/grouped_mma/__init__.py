"""Matmul with group-wise integer weights on GPUs: C[M, N] = epilogue(A[M, K] x B[K, N]).

W4A16 and W8A16: B is s (q - z), codes of 4 or 8 bits (compiler.formats.integers); A is rounded to
bf16, or is in bf16. q - z is exact in bf16, products are summed in f32 and multiplied by the scales
there, so that nothing but A and the sums is rounded, and numbers that are not finite give what they
give in f32. Formats that read A as 8-bit codes are read more precisely than they say. Packed B, in
the order of the operands of mma.m16n8k16: cuda/device/fewparts.cuh.

Of 4096 weights in groups of 128 (2144 bytes, 500 ns of a multiprocessor's share of 4.3 TB/s) a warp
issues, counted in machine code: 64 LOP3, 48 shifts (both on the pipe of integers, two cycles each:
224 of 880 cycles of a quarter of it), 64 exact subtractions, 16 multiplications and 4 loads of 16
bytes for each 8 rows, 280 instructions for 8 rows, 325 for 16. Rows of A are read by all blocks
through L2, at about 40 bytes a nanosecond and multiprocessor: so blocks in pairs share K, rows in
f32 are rounded once by a launch before, and rows in bf16 are copied as they are.

Wide weights (`cuda/fewflow.py`: panels for every multiprocessor) have functions whose copies
Hopper's accelerator makes, up to 16 rows, and from 392 panels on one for 33 rows and more, by wgmma
with weights in registers (`cuda/fewwide.py`); the rest go through `cuda/fewshapes.py`.

Measured on an H200, 4 bits in groups of 128, A and C in bf16, launches one after the other in a
CUDA graph over copies of B beyond the L2, 12 launches or more; us, in brackets those before these
functions, cuBLAS with B in f16 (13.2, 32, 34, 105 us for the four) beside:

    N x K           M = 1          M = 8          M = 16         M = 64
    4096 x 4096     4.9 (5.8)      5.7 (6.3)      7.3 (6.7)     14.0 (13.8)
    14336 x 4096   11.3 (12.3)    12.1 (15.6)    15.0 (18.3)    26.7 (38.5)
    4096 x 14336   10.4 (13.3)    12.4 (14.1)    14.1 (16.1)    37.2 (37.8)
    14336 x 14336  30.1 (34.8)    32.7 (40.6)    40.3 (50.9)    65.9 (109.6)

N of 4096 by tools/bench_gpu_weights.py (A in f32: 5.9, 7.1, 8.9, 15.4 and 12.8, 14.2, 15.9, 39.5),
N of 14336 by functions of the same division alone. Those of 14336 at 16 rows and those before, but
for 4096 x 4096, come from graphs with 2 to 6 launches and share a graph's beginning. The function
for 33 rows was measured as a draft of it; as it is here it has run on CPUs alone. 83 % of the byte
floor at 14336 x 14336 and one row, 42 % at 4096 x 4096. Variants with a part left out: at
14336 x 14336 copies alone take 26.0 us for one row and 28.4 for 16, products alone 25.4 and 31.0;
at 4096 x 4096 and one row 3.2 and 2.1, neither 0.8. At 64 rows products alone take 62 us, twice
what the tensor cores' rate allows: 64 columns with weights in registers.

Tried: clusters of four or eight (40 to 70 % slower: some blocks wait for others to end), a next
launch that copies beside narrow blocks (0.2 to 0.9 us slower than behind the last copy), wgmma for
16 rows (5 to 60 % slower).
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

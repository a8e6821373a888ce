"""Matmul with group-wise integer weights on GPUs: C[M, N] = epilogue(A[M, K] x B[K, N]).

W4A16 and W8A16: B is s (q - z), codes of 4 or 8 bits (compiler.formats.integers); A is rounded to
bf16, or is in bf16. q - z is exact in bf16, products are summed in f32 and multiplied by the scales
there, so that nothing but A and the sums is rounded, and numbers that are not finite give what they
give in f32. Formats that read A as 8-bit codes are read more precisely than they say. Packed B, in
the order of the operands of mma.m16n8k16: cuda/device/fewparts.cuh.

Of 4096 weights in groups of 128 (2144 bytes, 263 ns of a quarter's share of 4.3 TB/s) a warp
issues, counted in machine code: 64 LOP3, 48 shifts (both on the pipe of integers, two cycles each:
224 of 460 cycles), 64 exact subtractions, which go to another pipe between them, 16 multiplications
and 4 loads of 16 bytes for each 8 rows, 280 instructions for 8 rows, 325 for 16. Rows of A are read
by all blocks through L2: so blocks in pairs share K, and rows are copied as they are, in f32 too,
but for very large weights, where a launch before rounds them.

Wide weights (`cuda/fewflow.py`: panels for every multiprocessor) have functions whose copies
Hopper's accelerator makes, up to 16 rows, and from 392 panels on one for 33 rows and more, by wgmma
with weights in registers (`cuda/fewwide.py`); the rest go through `cuda/fewshapes.py`.

Measured on an H200, 4 bits in groups of 128, launches one after the other in a CUDA graph over
copies of B beyond the L2, 12 launches or more, beside cuBLAS with B in f16; us, A and C in bf16 /
in f32:

    N x K           cuBLAS     M = 1          M = 8          M = 16         M = 64
    4096 x 4096       13.1    4.2 /  4.2     5.6 /  5.0     6.6 /  6.9    13.8 / 15.5
    4096 x 14336      31.6    9.9 / 10.7    12.1 / 12.0    13.7 / 14.5    37.0 / 38.5
    14336 x 4096      30.4   11.1 / 11.4    11.9 / 12.4    13.2 / 15.8    26.0 / 26.2
    14336 x 14336    101.4   29.5 / 30.9    31.0 / 33.3    37.1 / 38.1    65.4 / 65.8

Up to 16 rows functions alone by the divisions of `fewflow`, 14336 x 4096 in f32 by 8 and 16 rows
but for the ring's depth. 85 % of the byte floor at 14336 x 14336 and one row, 49, 72 and 64 %
elsewhere. At 4096 x 4096 a launch and its end take 1.1 us, 2.0 with one row copied, 4.0 with 8 (64
bytes at once), without copies of B and products. At 64 rows products alone take 62 us at 14336 x
14336, twice what the tensor cores' rate allows: 64 columns with weights in registers.

Tried: clusters of four or eight (20 to 70 % slower: some blocks wait for others to end), a next
launch that copies beside narrow blocks (0.2 to 0.9 us slower than behind the last copy), a third
block of a multiprocessor (no faster), wgmma for 16 rows (5 to 60 % slower), 128 + q without the
subtraction and a product by ones instead (0.9 us slower at 4096 x 4096: subtractions cost nothing),
rows of A in a ring of their own (0 to 20 % slower), warps that copy B for themselves and read rows
of A from L2 (8 rows at 4096 x 4096 8 % faster, elsewhere up to 30 % slower), sums sent to the block
of a pair that stores them (no faster).
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

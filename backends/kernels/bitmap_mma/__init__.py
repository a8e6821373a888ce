"""Matmul on GPUs with a constant that has zeros, which are not stored.

Loaded sparse, computed dense: C[M, N] = epilogue(A[M, K] x B[K, N]) by mma.m16n8k16, in bf16 or
f16 with sums in f32, for every GPU from sm_80 on. The zeros are the model's own, or those of a
16-bit format that prunes. What is not finite in A meets them too and gives NaN, as with all
weights and as bitmap_matmul does on CPUs. After SpInfer (Fan et al., EuroSys 2025): cells in the
order of tensor cores' operands, of which a lane finds its values by counting bits, nothing in
between in shared memory. Packed B: cuda/device/bitmap.cuh.

Bytes are those of the values and a bit a weight: with half of the weights 0.5 + 1/16 of dense
bf16's, with 30 % 0.36. Counted in machine code (sm_90a, to 8 rows): a warp issues 222
instructions for 1024 weights, 128 of them 4 a weight (a load of 16 bits, three quarters of an
addition, the rest for counting and joining pairs), whatever is zero. Loads take 1.4 cycles of
shared memory each with half of the weights, 1.0 with 30 %. 1152 bytes of DRAM take 62 cycles of a
multiprocessor, all 2048 of dense bf16 110; instructions and shared memory were to take 55 to 60,
and take 90 to 110.

Measured on an H200, A and C in bf16, launches one after the other in a CUDA graph over copies of B
beyond the L2; us for half of the weights and for 30 %, cuBLAS with all of them, our own dense ones
(wgmma_matmul; in brackets mma_matmul with A and C in f32):

    K x N            M     50 %    30 %    cuBLAS   dense
    4096 x 4096      1     11.0     9.5     14.2     14.7 (10.8)
                     8     12.0    10.2     14.4     15.1 (14.0)
                    16     12.9    11.5     14.6     14.7
                    64     25.1    24.6     13.4     13.4
    4096 x 14336     1     28.7    26.2     35.6     39.3 (32.7)
                     8     29.2    28.2     32.7     36.6 (34.0)
                    16     35.0    35.3     33.6     36.3
                    64     87.5    75.4     37.9     36.5
    384 x 1024       1      3.0              4.4            (2.2)

(30 % at 4096 x 14336: of an earlier way to widen, with predicates.) Bytes alone would be 4.4,
2.9, 15.4 and 10.0 us; copies alone take 8.4, 6.9, 23.7 and 16.8, widening and products alone 9.1,
8.8, 28.7 and 26.4: they do not overlap fully, and starting and ending take 3 to 4 us. So it wins
up to 8 rows, a little at 16, and loses from 32 on, where blocks have too few warps to hide what
loads wait for; models like codelm (K and N of 128 to 1024) are too small to gain. Tried: loads
under predicates, at addresses that wait for each other (the same with 16 warps, slower with 8),
clusters that share K (1 to 15 us slower), two blocks a multiprocessor (0 to 8 % slower than 24
warps in one), a loop over chunks (1 to 10 % slower).
"""

from tilewright.backends.kernels.bitmap_mma import cases, cost, cuda, packing, reference, spec
from tilewright.backends.kernels.bitmap_mma.spec import BitmapMmaSpec
from tilewright.backends.kernels.family import KernelFamily

FAMILY = KernelFamily(
    name="bitmap_mma",
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
    fitted=spec.fitted,
    sample=packing.sample,
    layout=spec.layout,
    format=spec.weight_format,
    stored=spec.stored,
    shaped=cases.shaped,
)

__all__ = ["FAMILY", "BitmapMmaSpec"]

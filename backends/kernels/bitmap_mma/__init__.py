"""Matmul on GPUs with a constant that has zeros, which are not stored.

Loaded sparse, computed dense: C[M, N] = epilogue(A[M, K] x B[K, N]) by mma.m16n8k16, in bf16 or
f16 with sums in f32, for every GPU from sm_80 on. The zeros are the model's own, or those of a
16-bit format that prunes. What is not finite in A meets them too and gives NaN, as with all
weights and as bitmap_matmul does on CPUs. After SpInfer (Fan et al., EuroSys 2025): cells in the
order of tensor cores' operands, of which a lane finds its values by counting bits, nothing in
between in shared memory. Packed B: cuda/device/bitmap.cuh.

Bytes are those of the values and a bit a weight: with half of the weights 0.5 + 1/16 of dense
bf16's, with 30 % 0.36. Counted in machine code (sm_90a, to 8 rows, half of the weights): a warp
issues 218 instructions for 1024 weights, 128 of them 4 a weight: a load of 16 bits and half of an
addition, which are left out by predicate where it is zero, a half each of clearing, joining pairs
and counting. Four warps at a time, that is 55 cycles of a multiprocessor, and 58 of its shared
memory (a load of 32 values takes 1.4 cycles); 1152 bytes of DRAM take 62, all 2048 of dense bf16
110. So few rows gain up to 1.78 times at best, and 128 rows and more, for which tensor cores are
busy as long, nothing.
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

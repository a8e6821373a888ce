"""Matmul by a constant of f16 numbers: C[M, N] f32 = epilogue(A[M, K] f32 x B[K, N] f16).

Packed B, f16, for every CPU target alike: panels of 32 columns, each [K][32]. Digits are the order
in memory, N = 40, K = 3:

    panel 0: columns 0..31                panel 1: columns 32..39, zeros above
    k=0    0  1 ... 31                    k=0   96  97 ... 103  0 ... 0
    k=1   32 33 ... 63                    k=1  128 ...
    k=2   64 65 ... 95                    k=2  160 ...

B is widened; products, sums and epilogue are f32. Few rows widen it as they load it; for many each
panel is widened once and goes through f32_matmul's micro-kernel. With ``chain`` = 16
(AVX512-FP16) A is rounded, a block of rows at a time, and products and short sums are f16.

Measured on one core of a Sapphire Rapids virtual machine, interleaved, weights from beyond L2, in
times of f32_matmul's:
                 AVX-512   AVX2                          AVX-512   AVX2
  1x384x1024        0.60   0.57      12x384x1024            1.04   1.21
  4x384x1024        0.76   0.98      32x384x1024            1.14   1.08
  8x384x1024        0.88   1.19      128x384x1024           1.05   1.00
  8x1536x1536       1.10   1.25      128x1536x1536          1.05   1.03
Chains of 8, 16 and 32 (errors of random normal operands 4.8e-4, 6.4e-4 and 8.7e-4, of which 2.1e-4
are the result's rounding): 128x384x384 0.99, 0.82 and 0.73, where bf16_matmul takes 0.38;
1x1536x1536 0.59, 0.64 and 0.58. So they gain little with many rows, and nothing with few.
"""

from tilewright.backends.kernels.f16_matmul import cases, cost, llvm, packing, reference, spec
from tilewright.backends.kernels.f16_matmul.spec import F16MatmulSpec, HalfMatmulTask
from tilewright.backends.kernels.family import KernelFamily

FAMILY = KernelFamily(
    name="f16_matmul",
    op="contraction",
    emit=llvm.emit,
    reference=reference.run,
    units=spec.units,
    scratch_bytes=spec.scratch_bytes,
    cost=cost.estimate,
    cases=cases.cases,
    pack=packing.pack,
    unpack=packing.unpack,
    supports=llvm.supports,
    accuracy=spec.accuracy,
    candidates=spec.candidates,
    layout=spec.layout,
    strips=spec.strips,
    shaped=cases.odd,
)

__all__ = ["FAMILY", "F16MatmulSpec", "HalfMatmulTask"]

"""Matmul by a constant of f16 numbers: C[M, N] f32 = epilogue(A[M, K] f32 x B[K, N] f16).

Packed B, f16, for every CPU target alike: panels of 32 columns, each [K][32]. Digits are the order
in memory, N = 40, K = 3:

    panel 0: columns 0..31                panel 1: columns 32..39, zeros above
    k=0    0  1 ... 31                    k=0   96  97 ... 103  0 ... 0
    k=1   32 33 ... 63                    k=1  128 ...
    k=2   64 65 ... 95                    k=2  160 ...

B is widened as it is loaded; products, sums and epilogue are f32. With ``chain`` = 16 (AVX512-FP16)
A is rounded, a block of rows at a time, and products and short sums are f16.

Measured on one core of a Sapphire Rapids virtual machine, interleaved, in times of f32_matmul's
(relative L2 error of random normal operands, the rounding of the result, 2.1e-4, included):
             chain 0 (2.1e-4)  8 (4.8e-4)  16 (6.4e-4)  32 (8.7e-4)   bf16_matmul (2.4e-3)
  128x384x384       1.22          0.99         0.82         0.73          0.38
  128x384x1536      1.39          1.34         1.08         0.96          0.25
  4x1536x1536       0.76          0.62         0.77         0.73          0.58
  1x1536x1536       0.54          0.59         0.64         0.58          0.60
  1x4096x4096       0.48          0.48         0.48         0.49          0.57
So f16 wins where weights are what is read, by half the bytes and without any loss; chains do not
pay there. With many rows a chain of 16 gains little on f32 and AMX tiles beat it.
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
    shaped=cases.odd,
)

__all__ = ["FAMILY", "F16MatmulSpec", "HalfMatmulTask"]

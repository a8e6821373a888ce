"""f32 matmul with constant B on AMX: C[M, N] = epilogue(A[M, K] B[K, N]).

B is packed as f32_matmul packs it, the same bytes: panels of 32 columns, [ceil(N/32)][K][32] f32,
see there for the picture. At run time each panel is split into two or three bf16 parts while what
is before it is multiplied (backends.llvm.split_gemm), so 4 bytes a weight come from memory, as in
f32, and no more are in the artifact. Launches of fewer rows than spec.FROM_ROWS run the code of
f32_matmul.

``products``; relative L2 errors of random normal operands at K = 384:
    3   two parts each, a0 b0 + a0 b1 + a1 b0                      6.7e-6
    6   three each, down to a1 b1, a0 b2 and a2 b0: f32-faithful   1.4e-7 (f32_matmul: 1.9e-7)

As in f32 come out: infinities, NaN, infinity times infinity, and operands up to the greatest f32
(blocks of C in which a NaN shows up are computed again in f32). Not as in f32: subnormal operands,
parts and results count as zero, so values below 2**-110 lose the lower parts.

Measured on one core of a Sapphire Rapids virtual machine, time as part of f32_matmul's in the same
run, operands in L2, and in brackets weights from memory (200 to 400 MB of them in turn):
  6 products   128x384x384 0.62 (0.71), 128x384x1536 with GELU 0.59 (0.64), 128x768x768 0.65 (0.71),
               128x3072x768 0.68 (0.57), 64x768x768 0.67 (0.86), 32x768x768 0.87 (1.17)
  3 products   128x384x384 0.42 (0.53), 128x768x768 0.47 (0.52), 64x768x768 0.53 (0.71),
               32x768x768 0.73 (0.99)
A loop of nothing but the tile instructions would reach 400 GFLOP/s with 6 products, with parts of B
from L2 310; this one reaches 310 at best, and 280 with 64 rows. Chunks of two steps of K keep the
parts of B in L1 (64 rows 14 % and 32 rows 25 % faster than whole panels; 128 rows the same, as the
sums then pass through L1 instead).
"""

from tilewright.backends.kernels.family import KernelFamily
from tilewright.backends.kernels.split_matmul import cases, cost, llvm, packing, reference, spec
from tilewright.backends.kernels.split_matmul.spec import SplitMatmulSpec

FAMILY = KernelFamily(
    name="split_matmul",
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
    variants=spec.variants,
    accuracy=spec.accuracy,
    candidates=spec.candidates,
    layout=spec.layout,
    strips=spec.strips,
    shaped=cases.shaped,
)

__all__ = ["FAMILY", "SplitMatmulSpec"]

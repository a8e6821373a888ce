"""Batched f32 matmul of two activations: C[b.., M, N] = epilogue(A[b.., M, K] B[b.., K, N]).

Nothing is packed at compile time. A unit (128 rows by 64 columns of one batch element) packs the
panels of B that it needs into scratch, one at a time:

    k=0   b[0][n0]  b[0][n0+1] ... b[0][n0+31]
    k=1   b[1][n0]  ...

With at most one register block of rows, whole panels of a B that is not transposed are read where
they lie instead.

Measured by tools/bench_kernels.py on one core of a Sapphire Rapids virtual machine: GFLOP/s, and
percent of a register FMA loop timed right after:
  AVX-512  12x128x32x128 transposed 155 (79 %), 12x128x128x64 156 (83 %), 128x384x384 167 (89 %)
  AVX2     12x128x32x128 transposed 94 (83 %), 12x128x128x64 100 (89 %), 128x384x384 102 (90 %)
"""

from tilewright.backends.kernels.f32_bmm import cases, cost, llvm, reference, spec
from tilewright.backends.kernels.f32_bmm.spec import BmmSpec
from tilewright.backends.kernels.family import KernelFamily

FAMILY = KernelFamily(
    name="f32_bmm",
    op="contraction",
    emit=llvm.emit,
    reference=reference.run,
    units=spec.units,
    scratch_bytes=spec.scratch_bytes,
    cost=cost.estimate,
    cases=cases.cases,
    candidates=spec.candidates,
    shaped=cases.shaped,
)

__all__ = ["FAMILY", "BmmSpec"]

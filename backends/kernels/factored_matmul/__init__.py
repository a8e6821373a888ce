"""f32 matmul with a constant matrix of low rank, as two factors:
C[M, N] = epilogue((A[M, K] B[K, r]) D[r, N]), formats ``r<rank>-f32``.

Packed, bytes, for every CPU target alike: B, then, from a multiple of 64 on, D, each in panels of
32 columns as f32_matmul packs its matrix. K = 100, r = 48, N = 40:

    at     0   B: 2 panels of [100][32] f32, columns 48..63 of it zeros
    at 25600   D: 2 panels of [ 48][32] f32, columns 40..63 of it zeros

A kernel takes a block of rows through both products: A B lies in scratch, [rows][r in whole steps
of 32], where D's product finds it in L1 or L2. Units are such blocks; where N >= K also columns, so
that threads have something to share of few rows. Whoever has units of a block computes its middle
once: it is the same bits whoever does. (Of two threads that share the columns of one row each reads
all of B and half of D, so (K + N/2) / (K + N) of what one reads alone.)

Measured on one core of a Sapphire Rapids virtual machine, each beside the dense product of its
precision in the same run (f32_matmul, bf16_matmul), as part of its time with weights where the last
launch left them, and in brackets with weights from L3; part of the bytes is what no kernel can be
below where weights are the bound. The other families are here too:

                     bytes   f32          bf16         8 bits by bf16   4 bits by bf16
    1x512x512 r64     0.25   0.27 (0.27)  0.32 (0.30)  0.81 (0.28)      0.50 (0.17)
    1x512x1536 r64    0.17   0.05 (0.18)  0.17 (0.18)  0.52 (0.20)      0.31 (0.12)
    1x1536x512 r64    0.17   0.05 (0.18)  0.21 (0.20)  0.45 (0.18)      0.29 (0.11)
    1x4096x4096 r512  0.25   0.21 (0.24)  0.23 (0.31)  0.29 (0.31)      0.17 (0.18)
              r1024   0.5    0.43 (0.49)  0.46 (0.71)  0.56 (0.57)      0.25 (0.27)
    128x512x512 r64   0.25   0.26 (0.27)  0.56 (0.49)  0.62 (0.52)      0.72 (0.54)
    128x512x1536 r64  0.17   0.17 (0.17)  0.34 (0.34)  0.35 (0.38)      0.41 (0.39)
    128x384x384 r48   0.25   0.30 (0.31)  0.63 (0.49)
    128x384x1536 r48  0.16   0.17 (0.17)  0.44 (0.33)
    128x1536x384 r48  0.16   0.19 (0.20)  0.33 (0.38)
    128x4096x4096 r512 0.25  0.24 (0.25)  0.28 (0.33)  0.37 (0.42)      0.33 (0.39)
              r1024   0.5    0.48 (0.50)  0.51 (0.75)  0.65 (0.79)      0.64 (0.70)

So f32 and single rows are at that bound. What is left of bf16 with 128 rows and short sums is what
does not shrink with the rank: bringing A to bf16 and writing C. Integers cost their widening, once
for each weight.

Other families with two factors, bf16_factored_matmul and grouped_factored_matmul, share all but the
spec: `pair` says what a spec of two factors is and which functions multiply with them.
"""

from tilewright.backends.kernels.factored_matmul import (
    cases,
    cost,
    llvm,
    packing,
    pair,
    reference,
    spec,
)
from tilewright.backends.kernels.factored_matmul.spec import FactoredMatmulSpec
from tilewright.backends.kernels.family import KernelFamily

FAMILY = KernelFamily(
    name="factored_matmul",
    op="contraction",
    emit=llvm.emit,
    reference=reference.run,
    units=pair.units,
    scratch_bytes=pair.scratch_bytes,
    cost=cost.estimate,
    cases=cases.cases,
    pack=packing.pack,
    unpack=packing.unpack,
    variants=spec.variants,
    candidates=spec.candidates,
    layout=pair.layout,
    format=pair.name,
    shaped=cases.shaped,
)

__all__ = ["FAMILY", "FactoredMatmulSpec"]

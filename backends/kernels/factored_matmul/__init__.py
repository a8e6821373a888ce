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

"""Matmul with a constant matrix of low rank, as two factors of integers with a scale for each group
of 32 rows: C[M, N] = epilogue((A[M, K] B[K, r]) D[r, N]), formats ``r<rank>-w8-g32-sym`` and
``r<rank>-w4-g32``.

Packed as factored_matmul says, each factor as grouped_matmul packs its matrix. A and the middle are
read as bf16; few rows stream the codes, more rows bring both factors to bf16 (f32 on targets
without AVX512-BF16) in scratch, once for each block of rows. The middle lies there as f32.
"""

from tilewright.backends.kernels.factored_matmul import cost, packing, pair, reference
from tilewright.backends.kernels.family import KernelFamily
from tilewright.backends.kernels.grouped_factored_matmul import cases, llvm, spec
from tilewright.backends.kernels.grouped_factored_matmul.spec import GroupedFactoredMatmulSpec

FAMILY = KernelFamily(
    name="grouped_factored_matmul",
    op="contraction",
    emit=llvm.emit,
    reference=reference.run,
    units=pair.units,
    scratch_bytes=pair.scratch_bytes,
    cost=cost.estimate,
    cases=cases.cases,
    pack=packing.pack,
    unpack=packing.unpack,
    supports=llvm.supports,
    candidates=spec.candidates,
    layout=pair.layout,
    format=pair.name,
)

__all__ = ["FAMILY", "GroupedFactoredMatmulSpec"]

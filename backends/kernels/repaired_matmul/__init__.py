"""Matmul with integer weights and a correction of low rank:
C[M, N] = epilogue(A[M, K] Q[K, N] + bf16(A B[K, r]) D[r, N]), formats ``w4-g64+r<rank>``.

Packed, bytes, for every CPU target alike: Q as grouped_matmul packs it, then, from a multiple of 64
on, both factors as bf16_factored_matmul packs them.

A kernel takes a block of rows and some columns through three products: A B and then its product
with D lie in scratch, and the product with Q adds the latter in its epilogue.
"""

from tilewright.backends.kernels.family import KernelFamily
from tilewright.backends.kernels.repaired_matmul import cases, cost, llvm, packing, reference, spec
from tilewright.backends.kernels.repaired_matmul.spec import RepairedMatmulSpec

FAMILY = KernelFamily(
    name="repaired_matmul",
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
    candidates=spec.candidates,
    layout=spec.layout,
    format=spec.name,
    shaped=cases.shaped,
)

__all__ = ["FAMILY", "RepairedMatmulSpec"]

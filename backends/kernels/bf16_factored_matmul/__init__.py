"""bf16 matmul with a constant matrix of low rank, as two factors:
C[M, N] = epilogue(bf16(A[M, K] B[K, r]) D[r, N]), formats ``r<rank>-bf16``.

Packed as factored_matmul says, each factor as bf16_matmul packs its matrix. A and the middle are
rounded to bf16 on their way into tiles (or pairs, for few rows and without AMX); sums are f32. The
middle lies in scratch as bf16.
"""

from tilewright.backends.kernels.bf16_factored_matmul import cases, llvm, spec
from tilewright.backends.kernels.bf16_factored_matmul.spec import Bf16FactoredMatmulSpec
from tilewright.backends.kernels.factored_matmul import cost, packing, pair, reference
from tilewright.backends.kernels.family import KernelFamily

FAMILY = KernelFamily(
    name="bf16_factored_matmul",
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
    variants=spec.variants,
    candidates=spec.candidates,
    layout=pair.layout,
    format=pair.name,
    stored=spec.stored,
    shaped=cases.shaped,
)

__all__ = ["FAMILY", "Bf16FactoredMatmulSpec"]

"""bf16 matmul with a constant right-hand side: C[M, N] f32 = epilogue(A[M, K] f32 x B[K, N])."""

from tilewright.backends.kernels.bf16_matmul import cases, cost, llvm, packing, reference, spec
from tilewright.backends.kernels.bf16_matmul.spec import Bf16MatmulSpec
from tilewright.backends.kernels.family import KernelFamily

FAMILY = KernelFamily(
    name="bf16_matmul",
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
)

__all__ = ["FAMILY", "Bf16MatmulSpec"]

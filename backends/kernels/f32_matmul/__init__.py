"""f32 matmul with a constant right-hand side: C[M, N] = epilogue(A[M, K] B[K, N]).

Packed B, for every CPU target alike (ISA variants of one artifact share the bytes); digits are
the order in memory, N = 40, K = 3 shown:

    panel 0: columns 0..31          panel 1: columns 32..39, zeros above
    k=0   0  1  2 ... 31            k=0   96  97 ... 103  0 ... 0
    k=1  32 33 34 ... 63            k=1  128 129 ... 135  0 ... 0
    k=2  64 65 66 ... 95            k=2  160 161 ... 167  0 ... 0

AVX-512 reads a panel row as two vectors, AVX2 as two halves of two, SSE as four quarters of two.
"""

from tilewright.backends.kernels.f32_matmul import cases, cost, llvm, packing, reference, spec
from tilewright.backends.kernels.f32_matmul.spec import MatmulSpec
from tilewright.backends.kernels.family import KernelFamily

FAMILY = KernelFamily(
    name="f32_matmul",
    op="contraction",
    emit=llvm.emit,
    reference=reference.run,
    units=spec.units,
    scratch_bytes=spec.scratch_bytes,
    cost=cost.estimate,
    cases=cases.cases,
    pack=packing.pack,
    unpack=packing.unpack,
)

__all__ = ["FAMILY", "MatmulSpec"]

"""Matmul with weights that are ternary as they are: C[M, N] f32 = epilogue(A[M, K] f32 x B[K, N]),
every column of B zeros and one magnitude (BitNet b1.58, MatMul-free language models).

Nothing is rounded but products and sums, so these kernels stand beside those of f32 wherever
weights show that they are so; packed weights have 2.25 bits. They are coded_matmul's of 2-bit codes
in groups of 128 with the column's scale, and so are the packed bytes:

    B[k, n] = s[n] (q[k, n] - 2)    q 1, 2, 3

Up to 4 rows multiply the codes as numbers, more decode panels to f32.
"""

from tilewright.backends.kernels.family import KernelFamily
from tilewright.backends.kernels.ternary_matmul import cases, kernel, packing, spec
from tilewright.backends.kernels.ternary_matmul.spec import TernaryMatmulSpec

FAMILY = KernelFamily(
    name="ternary_matmul",
    op="contraction",
    emit=kernel.emit,
    reference=kernel.reference,
    units=kernel.units,
    scratch_bytes=kernel.scratch_bytes,
    cost=kernel.cost,
    cases=cases.cases,
    pack=packing.pack,
    unpack=packing.unpack,
    supports=kernel.supports,
    candidates=spec.candidates,
    layout=kernel.layout,
    shaped=cases.shaped,
    suits=packing.suits,
)

__all__ = ["FAMILY", "TernaryMatmulSpec"]

"""Matmul with ternary weights: C[M, N] f32 = epilogue(A[M, K] f32 x B[K, N]), B in the format t158
(compiler.formats.ternary), rows of A in 8 bits by one scale each.

Packed B, bytes, for every CPU target alike: panels of 32 columns of codes 0, 1, 2, then 32 scales
(f32). K = 100, N = 40, in one of two ways:

    2 bits   panel 0: columns 0..31                       panel 1: columns 32..39, scales of 0
               line 0, 128 bytes, four for each column;   ...
                 byte i: q[i] | q[4 + i] << 2 | q[8 + i] << 4 | q[12 + i] << 6
               line 1: k = 16..31  ...  line 7: codes of 1 from k = 100 on
               32 scales
    trits    panel 0
               line 0, 64 bytes, 16 bits for each column, t(k) = 9 q[k] + 3 q[k + 1] + q[k + 2]:
                 t(0) | t(3) << 5 | t(6) << 10
               line 1: k = 9..17  ...  line 11
               32 scales

2 bits: up to 24 rows multiply the codes, more widen panels to bf16 or f32 and are read so, or,
where targets multiply no bf16, all rows multiply them. Trits, 1.78 bits a weight, are looked up for
all rows, with AVX-512 only. Either is exact in integers up to the last product by the scales:
`backends.llvm.ternary_dots`.
"""

from tilewright.backends.kernels.family import KernelFamily
from tilewright.backends.kernels.ternary_int8_matmul import (
    cases,
    cost,
    llvm,
    packing,
    reference,
    spec,
)
from tilewright.backends.kernels.ternary_int8_matmul.spec import TernaryInt8MatmulSpec

FAMILY = KernelFamily(
    name="ternary_int8_matmul",
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
    candidates=spec.candidates,
    layout=spec.layout,
    format=spec.name,
    shaped=cases.shaped,
)

__all__ = ["FAMILY", "TernaryInt8MatmulSpec"]

"""Matmul with a constant in 8 bits that was pruned one k at a time: C[M, N] f32 = epilogue(A[M, K]
f32 x B[K, N]), blocks of 16 columns, or of 4, by four k that lie anywhere, with a scale a column.

The four k of a block are the next four at which a strip of columns has something other than zeros,
so that of weights pruned 16x1 or 4x1 only what is there is multiplied; `block_matmul` takes four k
that follow each other. Rows of A are read in 8 bits; one with NaN or infinity becomes NaN.

Packed B, bytes, for every CPU target alike; N = 40, 16 columns shown:

    head      i64 where strip 0 (columns 0..15) begins, how many blocks it has; strip 1; strip 2
              (columns 32..39, zeros above); strip 3: none; to a whole line of 64 bytes
    columns   for each panel of 32: i32 [32] sums, f32 [32] scales
    strip 0   u16 [block][4] places of k (llvm.apart_blocks); to a line
              s8 [block][16 columns][4 k], to a line
    strip 1   ...

Quads that are not whole end in zeros at the first k.
"""

from tilewright.backends.kernels.apart_matmul import cases, cost, llvm, packing, reference, spec
from tilewright.backends.kernels.apart_matmul.spec import ApartMatmulSpec
from tilewright.backends.kernels.family import KernelFamily

FAMILY = KernelFamily(
    name="apart_matmul",
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
    accuracy=spec.accuracy,
    fitted=spec.fitted,
    sample=packing.sample,
    layout=spec.layout,
    format=spec.weight_format,
    shaped=cases.shaped,
)

__all__ = ["FAMILY", "ApartMatmulSpec"]

"""Matmul with a constant of which only some blocks are there: C[M, N] f32 = epilogue(A[M, K] f32 x
B[K, N]), blocks of 16 columns, or of 4, by one k in f32, two in bf16, four in s8 (with a scale a
column), at multiples of their size. What is not there is neither stored nor multiplied.

Blocks are those of the model's own weights that have something other than zeros (nothing is rounded
then but products and sums, unless the bound on errors lets weights be bf16 or 8 bits), or those of
a format that prunes (compiler.formats.sparse). Where A has NaN or infinity, products with zeros of
blocks that are not there do not make NaN of C; rows in 8 bits become NaN as a
whole where the target multiplies bytes.

Packed B, bytes, for every CPU target alike; N = 40, s8 shown:

    head      i64 where strip 0 (columns 0..15) begins, how many blocks it has; strip 1; strip 2
              (columns 32..39, zeros above); strip 3: none; to a whole line of 64 bytes
    columns   of s8 only, for each panel of 32: i32 [32] sums, f32 [32] scales
    strip 0   u16 numbers of its blocks in rising order, number i for k = i q and on; to a line
              blocks: [16 columns][q k], 64 bytes each
    strip 1   ...

Narrow blocks have strips of 4 columns and 16 bytes; those of a strip are filled up to a line.

Rows of A are brought to the form of the products, and turned, once for all panels of a unit
(llvm.sparse_blocks); the sums of 16 rows by 16 columns are in registers while a strip passes, or
those of up to 64 rows by 4 columns (llvm.narrow_blocks).
"""

from tilewright.backends.kernels.block_matmul import cases, cost, llvm, packing, reference, spec
from tilewright.backends.kernels.block_matmul.spec import BlockMatmulSpec
from tilewright.backends.kernels.family import KernelFamily

FAMILY = KernelFamily(
    name="block_matmul",
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
    candidates=spec.candidates,
    fitted=spec.fitted,
    sample=packing.sample,
    layout=spec.layout,
    format=spec.weight_format,
    shaped=cases.shaped,
)

__all__ = ["FAMILY", "BlockMatmulSpec"]

"""Matmul with a constant that has zeros, which are not stored: C[M, N] f32 = epilogue(A[M, K] f32 x
B[K, N]). Loaded sparse, computed dense.

Weights are f32, bf16 or s8 with a scale a column. The zeros are the model's own (nothing is rounded
then but products and sums, unless the bound on errors lets weights be bf16 or 8 bits), or those of
a format that prunes (compiler.formats.sparse).

Packed B, bytes, for every CPU target alike; N = 40, K = 3 in f32 shown:

    head      i64 where panel 0 begins, where panel 1 begins; to a whole line of 64 bytes
    panel 0: columns 0..31, at a multiple of 64
      sums, scales   i32 [32], f32 [32] of the columns, of s8 only
      cell of k = 0..3: bitmaps of k = 0: 16 bits of columns 0..15, 16 of columns 16..31; of k = 1,
      2, 3; then values: those that are not 0, in the order of their bits
      cell of k = 4..7, ..., one behind the other; the last one to a whole line
    panel 1: columns 32..39, no bits above
    lines of zeros, one at least

In bf16 a bitmap has two k of 16 columns, in s8 four: bit i of a line is k = i % 2 (i % 4) of column
i // 2 (i // 4), as panels of bf16_matmul and int8_matmul lie in memory. Up to 4 rows meet each line
as it is expanded (llvm.bitmap_dots); for more, and where no instruction expands lines of that
type, panels are expanded to scratch, once for each block of rows (llvm.bitmap_lines).

Rows in 8 bits with NaN or infinity in them become NaN.
"""

from tilewright.backends.kernels.bitmap_matmul import cases, cost, llvm, packing, reference, spec
from tilewright.backends.kernels.bitmap_matmul.spec import BitmapMatmulSpec
from tilewright.backends.kernels.family import KernelFamily

FAMILY = KernelFamily(
    name="bitmap_matmul",
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

__all__ = ["FAMILY", "BitmapMatmulSpec"]

"""Product with 2:4 weights on Hopper: C[M, N] = epilogue(A[M, K] x B[K, N]), of every four k in a
row at most two of a column of B other than 0. Tensor cores multiply those two alone.

B is the model's own, bf16 or f16 of it, or in the format bf16-2in4. Packed B, bytes:

    values    u16 bits, columns one after the other: of every four k two values, each column filled
              up with zeros to 16 bytes (the stride that the tensor memory accelerator asks for)
    places    u32, at a multiple of 128: for each 64 k, for each 64 columns (an even number of
              them), a word for each thread of the group that multiplies these

A word has k 16 q .. 16 q + 15 of two columns, 16 w + g in its lower and 16 w + g + 8 in its upper
half, for thread 32 w + 4 g + q: four bits for each four k, the place of the first value and four
times that of the second, the first one below. A group with less than two values has zeros beside
them. Both together take 1.125 bytes a weight.

Columns of C are the rows of the tensor cores' result, which take the sparse operand on the left;
sums are turned in shared memory (`template.py`). What a value does not meet is not read: neither
infinity nor NaN there comes into a sum.

On an H200 in bf16, beside cuBLAS with all weights (`tools/bench_gpu_sparse.py`), microseconds:

    M               1             64            128           512           1024         8192
    4096 x 4096     10.4  1.32 x  12.4  1.12 x  14.4  1.02 x  22.8  1.18 x  34  1.35 x   259  1.37 x
    4096 x 12288                  21.5  1.34 x  24.5  1.25 x  63.2  1.16 x  100  1.38 x  782  1.41 x

Large products are bound by shared memory: 64 columns by 256 rows would take 144 bytes of it a
cycle, and 128 are there, so that tensor cores could be 1.78 times as fast as on dense weights at
the most.
"""

from tilewright.backends.kernels.family import KernelFamily
from tilewright.backends.kernels.wgmma_sparse_matmul import (
    cases,
    cost,
    cuda,
    packing,
    reference,
    spec,
    tiles,
)
from tilewright.backends.kernels.wgmma_sparse_matmul.spec import SparseTile, WgmmaSparseMatmulSpec

FAMILY = KernelFamily(
    name="wgmma_sparse_matmul",
    op="contraction",
    emit=None,
    reference=reference.run,
    units=spec.units,
    scratch_bytes=spec.scratch_bytes,
    cost=cost.estimate,
    cases=cases.cases,
    pack=packing.pack,
    unpack=packing.unpack,
    supports=cuda.supports,
    variants=tiles.variants,
    accuracy=spec.accuracy,
    candidates=spec.candidates,
    fitted=spec.fitted,
    layout=spec.layout,
    format=spec.weight_format,
    shaped=cases.shaped,
    stored=spec.stored,
    cuda=cuda.emit,
)

__all__ = ["FAMILY", "SparseTile", "WgmmaSparseMatmulSpec"]

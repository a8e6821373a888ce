"""Attention over key-value caches in codes: they are widened in registers, nothing is written back.

    K, V     rows of codes as `formats.caches` has them: 64 elements are 64 bytes s8 in int8, 32
             bytes 0|32 1|33 ... 31|63 (low | high nibble) in int4
    scales   f32, one a row, the keys of a head side by side

A scale multiplies a score, or the weight of a value, never an element. Codes of int4 are 7.5 above
their values: sums of queries, and of weights, times 7.5 are taken off at the end. Their rows are
rotated; so is the query, and the sum of values back.

A block is up to 4 rows, queries of one or more heads that share K and V; each vector of codes is
loaded and widened once for all of them. Scratch of a block:

    queries  [4][head_dim]     scaled, rotated
    scores   [4][256 keys]     then weights times the scales of values
    sums     [4][value_dim]    running output rows

On GPUs a block is 16 rows and one of several parts of the keys (`cuda`).

Measured on one core of a Sapphire Rapids virtual machine, operands in L2, 6 heads of 64, 1024 keys,
beside f32_attention (AVX-512; AVX2):
   1 query, 3 heads of Q for one of K   int8 32 us, int4 33, f32  50;   42, 52,  51
   1 query, a head of K each            int8 43 us, int4 45, f32 112;   56, 63, 117
   4 queries, 3 heads for one           int8 89 us, int4 91, f32 142;  131, 168, 196
  64 queries, 3 heads for one           int8 1.23 ms, int4 1.28, f32 0.68;  1.94, 2.55, 1.16
Many queries are dearer than over f32: each block of 4 rows widens all codes again and sums across
lanes. A step of a decoder has few.
"""

from tilewright.backends.kernels.cached_attention import cases, cost, cuda, llvm, reference, spec
from tilewright.backends.kernels.cached_attention.spec import (
    CachedAttentionSpec,
    CachedAttentionTask,
)
from tilewright.backends.kernels.family import KernelFamily

FAMILY = KernelFamily(
    name="cached_attention",
    op="cached_attention",
    emit=llvm.emit,
    cuda=cuda.kernel,
    reference=reference.run,
    units=spec.units,
    scratch_bytes=spec.scratch_bytes,
    cost=cost.estimate,
    cases=cases.cases,
    candidates=spec.candidates,
    shaped=cases.shaped,
)

__all__ = ["FAMILY", "CachedAttentionSpec", "CachedAttentionTask"]

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
"""

from tilewright.backends.kernels.cached_attention import cases, cost, llvm, reference, spec
from tilewright.backends.kernels.cached_attention.spec import (
    CachedAttentionSpec,
    CachedAttentionTask,
)
from tilewright.backends.kernels.family import KernelFamily

FAMILY = KernelFamily(
    name="cached_attention",
    op="cached_attention",
    emit=llvm.emit,
    reference=reference.run,
    units=spec.units,
    scratch_bytes=spec.scratch_bytes,
    cost=cost.estimate,
    cases=cases.cases,
    candidates=spec.candidates,
    shaped=cases.shaped,
)

__all__ = ["FAMILY", "CachedAttentionSpec", "CachedAttentionTask"]

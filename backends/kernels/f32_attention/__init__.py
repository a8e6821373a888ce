"""Fused attention: softmax(scale Q K^T + mask) V without a score matrix in memory.

Nothing is packed at compile time. Scratch of one unit (32 queries of one head), 32 wide:

    Q^T scaled   [head_dim][32]     d=0: q0 q1 ... q31 | d=1: ...
    S^T          [256 keys][32]     key 0: q0 q1 ... q31 | key 1: ...
    sums         [32][value_dim]    running output rows
    factors      [32]               rescaling of the rows when a tile raises the maximum
    V            [256][value_dim]   only if value_dim is no multiple of 32: rows padded with zeros

A block of one query (decoding) takes dot products with rows of K and adds up rows of V instead.

Measured on one core of a Sapphire Rapids virtual machine, operands in L2, AVX-512 and AVX2 code in
turn with the kernel before (exponentials by e^x, mask in a pass of its own, 16 queries at least):
  12 heads  128 x 128, size 32, padding mask  245 us, was 274; AVX2 394, was 420
                      mask of every query     246 us, was 344; AVX2 394, was 453
                      size 64, no mask        435 us, was 465; AVX2 690, was 707
   8 heads    1 x 1024, size 64               204 us, was 353; AVX2 240, was 529
   6 heads    1 x 129, size 64, 2 of K         6.2 us, was 20; AVX2 6.8, was 30
Of 12 heads 128 x 128, size 32, 246 us with AVX-512: scores 89, values 93 (80 each at the rate of a
bare loop), softmax with mask 35, transposing Q 11, writing Y 5; of size 64, 462 us: 195, 202 (160
each), 30, 32, 36.
"""

from tilewright.backends.kernels.f32_attention import cases, cost, llvm, reference, spec
from tilewright.backends.kernels.f32_attention.spec import AttentionSpec
from tilewright.backends.kernels.family import KernelFamily

FAMILY = KernelFamily(
    name="f32_attention",
    op="attention",
    emit=llvm.emit,
    reference=reference.run,
    units=spec.units,
    scratch_bytes=spec.scratch_bytes,
    cost=cost.estimate,
    cases=cases.cases,
    candidates=spec.candidates,
    shaped=cases.shaped,
)

__all__ = ["FAMILY", "AttentionSpec"]

"""Fused attention: softmax(scale Q K^T + mask) V without a score matrix in memory.

Nothing is packed at compile time. Scratch of one unit (32 queries of one head), 32 wide:

    Q^T scaled   [head_dim][32]     d=0: q0 q1 ... q31 | d=1: ...
    S^T          [256 keys][32]     key 0: q0 q1 ... q31 | key 1: ...
    sums         [32][value_dim]    running output rows
    factors      [32]               rescaling of the rows when a tile raises the maximum
    V            [256][value_dim]   only if value_dim is no multiple of 32: rows padded with zeros

Measured by tools/bench_kernels.py on one core of a Sapphire Rapids virtual machine: GFLOP/s, and
percent of a register FMA loop timed right after (about 194; AVX2 110):
  12 heads  128 x 128, size 32, padding mask 107 (55 %); size 64 125 (64 %); 512 x 512, size 64
            125 (70 %)
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
)

__all__ = ["FAMILY", "AttentionSpec"]

"""Cost of fused attention."""

from __future__ import annotations

from tilewright.backends.kernels import work
from tilewright.backends.kernels.f32_attention.spec import KEYS, QUERIES, AttentionSpec
from tilewright.backends.kernels.family import Cost
from tilewright.backends.llvm.microkernel import PANEL, widest
from tilewright.backends.target import Target

SOFTMAX = 18
"""Operations a score: mask, maximum, exponential, sum."""


def estimate(spec: AttentionSpec, dims: tuple[int, ...], target: Target) -> Cost:
    """Both products, 2 operations a multiply-add (hidden keys counted); Q, K, V, Y once."""
    batch, heads, seq_q, seq_k, group, past = dims[:6]
    both = spec.head_dim + spec.value_dim
    scores = batch * heads * seq_q * seq_k
    kv = batch * (heads // max(group, 1)) * seq_k * both
    product, computed = work.Work(), 0
    for first in range(0, seq_q, QUERIES):
        rows = min(QUERIES, seq_q - first)
        width = QUERIES if rows > QUERIES // 2 else QUERIES // 2
        keys = max(min(seq_k, first + past + rows), 0) if spec.causal else seq_k
        if rows == 1:
            # Rows of K and V once, loads and FMAs in turn; sums across the lanes.
            product += work.Work(issued=3 * keys * both, streamed=4 * keys * both, blocks=2)
            computed += 2 * keys
            continue
        most = widest(target).rows
        # Both orders have Q's rows in vectors or in registers: K's rows, then Q's.
        product += work.f32_product(target, keys, spec.head_dim, width, most)
        product += work.f32_product(target, rows, keys, spec.value_dim, most)
        computed += width * keys
    times = batch * heads
    blocks = -(-seq_q // QUERIES)
    packed = blocks * seq_k * spec.value_dim if spec.value_dim % PANEL else 0
    return Cost(
        flops=2 * scores * both,
        bytes=4 * (batch * heads * seq_q * both + kv),
        issued=times * product.issued,
        streamed=times * product.streamed,
        converted=times * (seq_q * spec.head_dim + packed),
        epilogue=times * (SOFTMAX * computed + seq_q * spec.value_dim * (2 + seq_k // KEYS)),
        written=4 * times * seq_q * spec.value_dim,
        blocks=times * product.blocks,
    )

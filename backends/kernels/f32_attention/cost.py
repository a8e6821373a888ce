"""Cost of fused attention."""

from __future__ import annotations

from tilewright.backends.kernels.f32_attention.spec import AttentionSpec
from tilewright.backends.kernels.family import Cost


def estimate(spec: AttentionSpec, dims: tuple[int, ...]) -> Cost:
    """Both products, 2 operations a multiply-add (hidden keys counted); Q, K, V, Y once."""
    batch, heads, seq_q, seq_k, group = dims[:5]
    both = spec.head_dim + spec.value_dim
    scores = batch * heads * seq_q * seq_k
    kv = batch * (heads // max(group, 1)) * seq_k * both
    return Cost(2 * scores * both, 4 * (batch * heads * seq_q * both + kv))

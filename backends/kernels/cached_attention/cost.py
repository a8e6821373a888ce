"""Cost of attention over caches in codes."""

from __future__ import annotations

from tilewright.backends.kernels.cached_attention.spec import (
    KEYS,
    ROWS,
    CachedAttentionSpec,
    rows,
)
from tilewright.backends.kernels.family import Cost
from tilewright.backends.target import Target

SOFTMAX = 20
"""Operations a score: scale, mask, maximum, exponential, sum, scale of the value."""


def estimate(spec: CachedAttentionSpec, dims: tuple[int, ...], target: Target) -> Cost:
    """Both products; each block of rows reads and widens all codes of its head."""
    batch, heads, seq_q, seq_k = dims[:4]
    both = spec.head_dim + spec.value_dim
    shared = heads // spec.group
    block = rows(spec.group) if seq_q == 1 else ROWS
    blocks = batch * shared * -(-seq_q * spec.group // block)
    codes = seq_k * (spec.made.width(spec.head_dim) + spec.made.width(spec.value_dim) + 8)
    scores = batch * heads * seq_q * seq_k
    elements = batch * heads * seq_q * spec.value_dim
    if target.gpu:
        # Two products of tf32 with each code.
        return Cost(
            flops=2 * scores * both,
            bytes=4 * batch * heads * seq_q * both + batch * shared * codes,
            unit="f16",
            issued=4 * 2 * scores * both,
            epilogue=SOFTMAX * scores,
            written=4 * elements,
            blocks=1,
        )
    return Cost(
        flops=2 * scores * both,
        bytes=4 * batch * heads * seq_q * both + batch * shared * codes,
        # A widened element costs two operations, a sum across lanes about two a score.
        issued=2 * blocks * seq_k * (block + 1) * both,
        streamed=blocks * codes,
        converted=batch * heads * seq_q * spec.head_dim,
        epilogue=SOFTMAX * scores + elements * (2 + seq_k // KEYS),
        written=4 * elements,
        blocks=2 * blocks,
    )

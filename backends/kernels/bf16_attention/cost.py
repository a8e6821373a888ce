"""Cost of attention with bf16 products."""

from __future__ import annotations

from dataclasses import replace

from tilewright.backends.kernels.bf16_attention.spec import (
    PLANE_BYTES,
    QUERIES,
    Bf16AttentionSpec,
)
from tilewright.backends.kernels.f32_attention import cost as f32
from tilewright.backends.kernels.family import Cost
from tilewright.backends.llvm import amx, formats
from tilewright.backends.llvm.amx import ROWS
from tilewright.backends.llvm.bf16_block import STEP
from tilewright.backends.target import Target

SOFTMAX = {1: 5, 3: 8, 6: 11}
"""Products -> operations a score: maximum, exponential, sum, rounding or splitting."""


def estimate(spec: Bf16AttentionSpec, dims: tuple[int, ...], target: Target) -> Cost:
    """Both products, 2 operations a multiply-add (hidden keys counted); Q, K, V, Y once."""
    batch, heads, seq_q, seq_k, group, past = dims[:6]
    if seq_q == 1 and spec.plain:
        # The same code; where nothing else is computed the smaller kernel shall win.
        same = f32.estimate(spec, dims, target)
        return replace(same, blocks=same.blocks + 1)
    both = spec.head_dim + spec.value_dim
    q, k, v, y = (formats.BYTES[name] for name in (spec.q, spec.k, spec.v, spec.y))
    kv = batch * (heads // max(group, 1)) * seq_k * both
    steps_across = spec.depth + spec.panels
    scores = pairs = blocks = 0
    for first in range(0, seq_q, QUERIES):
        rows = -(-min(QUERIES, seq_q - first) // ROWS) * ROWS
        keys = max(min(seq_k, first + past + QUERIES), 0) if spec.causal else seq_k
        steps = -(-keys // STEP)
        scores += rows * steps * STEP
        pairs += rows * steps
        blocks += steps + spec.panels * -(-keys // spec.keys)
    times = batch * heads
    tile = amx.has_bf16(target)
    return Cost(
        flops=2 * batch * heads * seq_q * seq_k * both,
        bytes=batch * heads * seq_q * (q * spec.head_dim + y * spec.value_dim)
        + kv // both * (k * spec.head_dim + v * spec.value_dim),
        unit="bf16_tile" if tile else "bf16_dot",
        issued=2 * times * pairs * steps_across * STEP * STEP * spec.products,
        streamed=times * pairs // ROWS * steps_across * spec.planes * PLANE_BYTES,
        converted=(times * seq_q * spec.head_dim + kv) * spec.planes,
        epilogue=times * (SOFTMAX[spec.products] * scores + 2 * seq_q * spec.value_dim),
        written=y * times * seq_q * spec.value_dim,
        blocks=times * blocks,
    )

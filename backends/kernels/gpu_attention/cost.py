"""Cost of fused attention on GPUs."""

from __future__ import annotations

from tilewright.backends.kernels.family import Cost
from tilewright.backends.kernels.gpu_attention.spec import GpuAttentionSpec
from tilewright.backends.llvm import formats
from tilewright.backends.target import Target

UNIT = {"tf32x3": ("f32", 3), "tf32": ("f16", 2), "bf16": ("bf16_tile", 1)}
"""What multiplies -> unit, and products of its own kind for one of the operands."""

SOFTMAX = 6
"""Operations a score: scale, maximum, exponential, sum, rounding."""


def estimate(spec: GpuAttentionSpec, dims: tuple[int, ...], _target: Target) -> Cost:
    """Both products, 2 operations a multiply-add (hidden keys counted); Q, K, V, Y once."""
    batch, heads, seq_q, seq_k, group = dims[:5]
    size = formats.BYTES
    scores = batch * heads * seq_q * seq_k
    flops = 2 * scores * (spec.head_dim + spec.value_dim)
    written = batch * heads * seq_q * spec.value_dim * size[spec.y]
    read = batch * heads * seq_q * spec.head_dim * size[spec.q]
    keys = batch * (heads // max(group, 1)) * seq_k
    read += keys * (spec.head_dim * size[spec.k] + spec.value_dim * size[spec.v])
    unit, products = UNIT[spec.math]
    return Cost(
        flops=flops,
        bytes=read + written,
        unit=unit,
        issued=products * flops,
        epilogue=SOFTMAX * scores,
        written=written,
        blocks=1,
    )

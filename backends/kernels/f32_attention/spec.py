"""Spec of fused f32 attention, its scratch layout and its division into units."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tilewright.backends.kernels.tasks import AttentionTask
from tilewright.backends.llvm.microkernel import PANEL
from tilewright.backends.target import Target

QUERIES = 32
"""Queries of one unit: one panel width, so that scores are computed transposed, [key][query], and
softmax runs along rows of vectors without a horizontal step."""

KEYS = 256
"""Keys of one tile: 256 x 32 scores are 32 KiB, half of them in L1 at any time."""


@dataclass(frozen=True)
class AttentionSpec:
    """Y = softmax(scale Q K^T + mask) V for each batch element, head and query.

    Q [.., seq_q, head_dim], K [.., seq_k, head_dim], V [.., seq_k, value_dim], Y [.., seq_q,
    value_dim], f32, each with run-time strides for batch, head and sequence, innermost dense.

    Args: Q, K, V, mask if any, Y.
    Dims: p0 = batch, p1 = heads of Q, p2 = seq_q, p3 = seq_k, p4 = heads of Q for one head of K
    and V, p5 = causal offset: query i sees keys j <= i + p5 (0 or the length of the past; only
    read when ``causal``), p6..p8 = strides of Q (batch, head, sequence) in elements, p9..p11 of K,
    p12..p14 of V, p15..p17 of Y, and with a mask p18..p21 = its strides (batch, head, query,
    key), 0 where it is broadcast.

    ``mask``: None, ``f32`` (added to the scaled scores) or ``i8`` (boolean, 0 hides the key).
    ``masked_zero``: a query that sees no key gives 0 instead of NaN (the value of an ONNX Softmax
    over -inf only).
    """

    head_dim: int
    value_dim: int
    scale: float
    mask: str | None = None
    causal: bool = False
    masked_zero: bool = False

    @property
    def value_stride(self) -> int:
        """Elements between rows of the accumulated output and of packed V."""
        return -(-self.value_dim // PANEL) * PANEL


def units(spec: AttentionSpec) -> str:
    """Number of work units, a formula over the dims."""
    return f"p0 * p1 * ceildiv(p2, {QUERIES})"


@dataclass(frozen=True)
class Scratch:
    """Offsets in f32 elements: transposed Q, scores, output sums, row factors, packed V."""

    queries: int
    scores: int
    sums: int
    factors: int
    values: int
    end: int

    @classmethod
    def of(cls, spec: AttentionSpec) -> Scratch:
        # Q is transposed in whole vectors of at most 16 rows.
        queries = -(-spec.head_dim // 16) * 16 * QUERIES
        scores = KEYS * QUERIES
        sums = QUERIES * spec.value_stride
        values = KEYS * spec.value_stride if spec.value_dim % PANEL else 0
        ends = [0]
        for size in (queries, scores, sums, QUERIES, values):
            ends.append(ends[-1] + size)
        return cls(*ends)


def scratch_bytes(spec: AttentionSpec) -> str:
    """Bytes of scratch a thread needs, a formula over the dims."""
    return str(4 * Scratch.of(spec).end)


def candidates(task: Any, _target: Target) -> tuple[AttentionSpec, ...]:
    """The spec of fused attention."""
    return (AttentionSpec(**vars(task)),) if isinstance(task, AttentionTask) else ()

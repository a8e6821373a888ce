"""Spec of attention over key-value caches in codes, its scratch and its division into units."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tilewright.backends.target import Target
from tilewright.compiler.formats.caches import CACHES, CacheFormat

QUERIES = 8
"""Queries of one unit, each with all heads that share keys."""

KEYS = 256
"""Keys of one tile: scores of all rows of a block stay in L1."""

ROWS = 4
"""Rows of a block at most, a row being a query in one head: each code that is read and widened is
used so often."""

LARGEST = 256
"""Elements of a row at most on GPUs: sums of a warp are in registers."""

VECTOR = 16
"""Lanes of the widest target: scratch is laid out in multiples of them."""


@dataclass(frozen=True)
class CachedAttentionTask:
    """Y = softmax(scale Q K^T + mask) V with K and V in a cache format (formats.caches).

    ``group`` heads of Q share one head of K and V. Rows of K are ``head_dim`` elements, of V
    ``value_dim``. ``mask``, ``causal`` and ``masked_zero`` as of f32_attention.

    Args: Q f32, K codes, K scales f32, V codes, V scales f32, mask if any, Y f32.
    Dims: p0 = batch, p1 = heads of Q, p2 = seq_q, p3 = seq_k, p4 = causal offset (query i sees keys
    j <= i + p4), p5..p7 = strides of Q (batch, head, sequence) in elements, p8..p10 of rows of K's
    codes in bytes, p11..p12 of K's scales (batch, head), whose keys are dense, p13..p17 the same of
    V, p18..p20 of Y, and with a mask p21..p24 = its strides (batch, head, query, key).
    """

    head_dim: int
    value_dim: int
    scale: float
    format: str
    group: int = 1
    mask: str | None = None
    causal: bool = False
    masked_zero: bool = False


@dataclass(frozen=True)
class CachedAttentionSpec(CachedAttentionTask):
    """Args and dims as of the task."""

    @property
    def made(self) -> CacheFormat:
        return CACHES[self.format]

    @property
    def parts(self) -> int:
        """Elements of a row in one byte of its codes."""
        return 8 // self.made.bits

    def stride(self, size: int) -> int:
        """Elements of scratch for a row of ``size``, its parts in whole vectors."""
        return self.parts * -(-size // (self.parts * VECTOR)) * VECTOR + VECTOR


def rows(group: int) -> int:
    """Rows of a block of one query: equal parts of its heads, at most ROWS."""
    return -(-group // -(-group // ROWS))


def units(spec: CachedAttentionSpec) -> str:
    """Number of work units, a formula over the dims."""
    return f"p0 * (p1 // {spec.group}) * ceildiv(p2, {QUERIES})"


@dataclass(frozen=True)
class Scratch:
    """Offsets in f32 elements: queries, scores and output sums of a block of rows."""

    queries: int
    scores: int
    sums: int
    end: int

    @classmethod
    def of(cls, spec: CachedAttentionSpec) -> Scratch:
        ends = [0]
        for size in (spec.stride(spec.head_dim), KEYS, spec.stride(spec.value_dim)):
            ends.append(ends[-1] + ROWS * size)
        return cls(*ends)


def scratch_bytes(spec: CachedAttentionSpec) -> str:
    """Bytes of scratch a thread needs, a formula over the dims."""
    return str(4 * Scratch.of(spec).end)


def candidates(task: Any, target: Target) -> tuple[CachedAttentionSpec, ...]:
    """The only way to do it."""
    if not isinstance(task, CachedAttentionTask):
        return ()
    if target.gpu and max(task.head_dim, task.value_dim) > LARGEST:
        return ()
    return (CachedAttentionSpec(**vars(task)),)

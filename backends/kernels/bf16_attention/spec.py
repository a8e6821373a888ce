"""Spec of fused attention with bf16 products, its scratch layout and its division into units."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from tilewright.backends.kernels.f32_attention import spec as f32
from tilewright.backends.kernels.f32_attention.spec import AttentionSpec
from tilewright.backends.kernels.tasks import AttentionTask
from tilewright.backends.llvm import amx, bf16, formats
from tilewright.backends.llvm.amx import ROWS, TILE_BYTES
from tilewright.backends.llvm.bf16_block import STEP, steps
from tilewright.backends.target import Target

QUERIES = 2 * ROWS
"""Queries of one unit: two tiles of them meet two tiles of keys."""

PLANE_BYTES = STEP * STEP * 2
"""One plane of 32 keys by 32 sizes, of K^T or of V."""

SCORE_BYTES = ROWS * STEP * 4
"""Scores of 16 queries by 32 keys."""

ACCURACY = {1: 1e-2, 3: 1e-5, 6: 0.0}
"""Products -> class of the result's relative L2 error."""


@dataclass(frozen=True)
class Bf16AttentionSpec(AttentionSpec):
    """Args and dims as AttentionSpec.

    ``products``: 1 rounds Q, K, V and the weights of the softmax to bf16; 3 and 6 split each into
    two and three bf16 values (bf16.ORDER). Scores, maxima, exponentials and sums are f32.
    ``keys``: of one tile of scores, a multiple of 32. ``q``, ``k``, ``v``, ``y``: formats of the
    operands and the result in memory (llvm.formats), bf16 for one product.
    """

    products: int = 1
    keys: int = 256
    q: str = formats.F32_FORMAT
    k: str = formats.F32_FORMAT
    v: str = formats.F32_FORMAT
    y: str = formats.F32_FORMAT

    @property
    def plain(self) -> bool:
        """Whether everything in memory is f32."""
        return {self.q, self.k, self.v, self.y} == {formats.F32_FORMAT}

    def __post_init__(self) -> None:
        formats.check(self.q, self.k, self.v, self.y)
        if self.products > 1 and not self.plain:
            raise ValueError(f"{self.products} products are of f32 values")
        if self.products not in bf16.PLANES or self.keys % STEP or self.keys <= 0:
            raise ValueError(f"{self.products} products, tiles of {self.keys} keys")

    @property
    def planes(self) -> int:
        """bf16 values that each operand is split into."""
        return bf16.PLANES[self.products]

    @property
    def depth(self) -> int:
        """Steps of 32 along head_dim."""
        return steps(self.head_dim)

    @property
    def panels(self) -> int:
        """Panels of 32 along value_dim."""
        return steps(self.value_dim)

    @property
    def key_panel_bytes(self) -> int:
        """32 keys of K^T."""
        return self.depth * self.planes * PLANE_BYTES

    @property
    def query_tile_bytes(self) -> int:
        """16 queries."""
        return self.depth * self.planes * TILE_BYTES

    @property
    def span(self) -> int:
        """Bytes of the scores of 16 queries and one tile of keys."""
        return self.keys // STEP * SCORE_BYTES


def blocks(spec: Bf16AttentionSpec) -> str:
    """Units that share a head of K and V, next to each other."""
    return f"ceildiv(p2, {QUERIES})"


def units(spec: Bf16AttentionSpec) -> str:
    """Number of work units, a formula over the dims."""
    return f"p0 * p1 * {blocks(spec)}"


@dataclass(frozen=True)
class Scratch:
    """Offsets in bytes. The values of V lie behind all keys, ``end + steps * key_panel_bytes``."""

    queries: int
    bias: int
    zeros: int
    scores: int
    weights: int
    sums: int
    highest: int
    base: int
    total: int
    factor: int
    keys: int

    @classmethod
    def of(cls, spec: Bf16AttentionSpec) -> Scratch:
        sizes = (
            2 * spec.query_tile_bytes,
            spec.keys * 4,
            STEP * 4,
            QUERIES * spec.keys * 4,
            QUERIES * spec.keys * 2 * spec.planes,
            QUERIES * spec.value_stride * 4,
            *(QUERIES * 4,) * 4,
        )
        ends = [0]
        for size in sizes:
            ends.append(ends[-1] + size)
        # One query alone is f32 attention's, in its own layout.
        ends[-1] = max(ends[-1], -(-4 * f32.Scratch.of(spec).end // 64) * 64)
        return cls(*ends)


def scratch_bytes(spec: Bf16AttentionSpec) -> str:
    """Bytes of scratch a thread needs, a formula over the dims: all keys and values of a head."""
    each = spec.key_panel_bytes + spec.panels * spec.planes * PLANE_BYTES
    return f"{Scratch.of(spec).keys} + ceildiv(p3, {STEP}) * {each}"


def candidates(task: Any, target: Target) -> tuple[Bf16AttentionSpec, ...]:
    """Each number of products that can pay: without tiles two multiply-adds an instruction make
    up for one product only."""
    if not isinstance(task, AttentionTask):
        return ()
    counts = ACCURACY if amx.has_bf16(target) else (1,)
    return tuple(Bf16AttentionSpec(**vars(task), products=p) for p in counts)


def stored(
    spec: Bf16AttentionSpec, operands: tuple[str, ...], result: str
) -> Bf16AttentionSpec | None:
    """The same with Q, K, V and Y in these formats; None where it cannot."""
    q, k, v = operands
    other = {q, k, v, result} != {formats.F32_FORMAT}
    return None if other and spec.products > 1 else replace(spec, q=q, k=k, v=v, y=result)


def variants(spec: Bf16AttentionSpec, _target: Target) -> tuple[Bf16AttentionSpec, ...]:
    """Tiles of 256 keys, or of 512 with several products (see the package)."""
    return (spec,) if spec.products == 1 else (spec, replace(spec, keys=512))


def accuracy(spec: Bf16AttentionSpec) -> float:
    """By the number of products."""
    return ACCURACY[spec.products]

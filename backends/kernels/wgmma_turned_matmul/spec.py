"""Spec of the product of few rows whose columns are the left operand, and its division."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from tilewright.backends.kernels.family import Layout
from tilewright.backends.kernels.tasks import MatmulTask
from tilewright.backends.kernels.wgmma_matmul import spec as plain
from tilewright.backends.kernels.wgmma_matmul.spec import DEPTH, WgmmaMatmulSpec
from tilewright.backends.target import Target

CLUSTER = plain.CLUSTER

PAD = 4
"""Floats behind a row of sums in shared memory, against conflicts of banks."""


@dataclass(frozen=True)
class TurnedTile:
    """How a launch is divided.

    ``rows`` x ``columns`` of C for a block, ``stages`` of the ring; ``groups`` of 128 threads that
    multiply, each 64 columns or more; ``split``: blocks of a cluster, each with a part of K.
    """

    rows: int = 32
    columns: int = 64
    stages: int = 4
    groups: int = 1
    split: int = 1

    def __post_init__(self) -> None:
        if self.rows % 8 or not 8 <= self.rows <= 256 or self.columns % (64 * self.groups):
            raise ValueError(f"no tile of {self.rows} x {self.columns} for {self.groups} groups")
        if not 64 <= self.columns <= 256:
            raise ValueError(f"{self.columns} columns of a tile, at most 256")
        if not 2 <= self.stages <= 12:
            raise ValueError(f"a ring of {self.stages} stages")
        if not 1 <= self.split <= CLUSTER or self.rows % self.split:
            raise ValueError(f"{self.rows} rows cannot be added up by {self.split} blocks")

    @property
    def threads(self) -> int:
        return 128 * (self.groups + 1)

    @property
    def pitch(self) -> int:
        """Floats from a row of sums in shared memory to the next."""
        return self.columns + PAD

    @property
    def sums(self) -> int:
        """Bytes of the ring, or of the sums that take its place."""
        ring = self.stages * (self.rows + self.columns) * DEPTH * 2
        return max(ring, self.rows * self.pitch * 4)

    @property
    def shared(self) -> int:
        """Bytes of shared memory: alignment, ring or sums, barriers."""
        return 1024 + self.sums + 256


@dataclass(frozen=True)
class WgmmaTurnedMatmulSpec:
    """C[M, N] = epilogue(A[M, K] x B[K, N]) with constant B, sums in f32.

    Args, dims: as `tasks.MatmulTask`. ``product``: what is computed; its tile means nothing.
    """

    product: WgmmaMatmulSpec
    tile: TurnedTile = TurnedTile()

    def __post_init__(self) -> None:
        if self.product.products > 1:
            raise ValueError("only one product for each element")
        if self.tile.split > self.product.steps:
            raise ValueError(f"{self.product.steps} steps of K in {self.tile.split} parts")

    @property
    def across(self) -> int:
        """Tiles beside each other."""
        return -(-self.product.n // self.tile.columns)


def units(spec: WgmmaTurnedMatmulSpec) -> str:
    """Tiles."""
    return f"ceildiv(p0, {spec.tile.rows}) * {spec.across}"


def scratch_bytes(_spec: WgmmaTurnedMatmulSpec) -> str:
    """None on a CPU: a GPU kernel says its workspace itself."""
    return "0"


def candidates(task: Any, target: Target) -> tuple[WgmmaTurnedMatmulSpec, ...]:
    """In bf16 and f16."""
    if not isinstance(task, MatmulTask):
        return ()
    made = plain.candidates(task, target)
    return tuple(WgmmaTurnedMatmulSpec(one) for one in made if one.products == 1)


def stored(
    spec: WgmmaTurnedMatmulSpec, operands: tuple[str, ...], result: str
) -> WgmmaTurnedMatmulSpec | None:
    """The same with A and C in these formats; None where it cannot."""
    product = plain.stored(spec.product, operands, result)
    return None if product is None else replace(spec, product=product)


def accuracy(spec: WgmmaTurnedMatmulSpec) -> float:
    """That of the product."""
    return plain.accuracy(spec.product)


def layout(spec: WgmmaTurnedMatmulSpec) -> Layout:
    """Of packed B: the product's."""
    return plain.layout(spec.product)

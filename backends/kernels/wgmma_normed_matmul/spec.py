"""Spec of the product whose rows are normalized, its tiles, and its division into them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from tilewright.backends.kernels.family import Layout
from tilewright.backends.kernels.tasks import Bytes, MatmulTask, span
from tilewright.backends.kernels.wgmma_matmul import spec as plain
from tilewright.backends.kernels.wgmma_matmul.spec import DEPTH, SHARED, WgmmaMatmulSpec
from tilewright.backends.llvm.normalization import Norm
from tilewright.backends.target import Target

CLUSTER = plain.CLUSTER

TEAM = 8
"""Threads that share a row, as many as blocks may."""


@dataclass(frozen=True)
class NormedMatmulTask:
    """C[M, N] f32 = the rows of a product, epilogue and all, normalized.

    Args: A, packed B, the epilogue's extras, the norm's vectors, then C. Dims: as `product`.
    """

    product: MatmulTask
    norm: Norm

    @property
    def k(self) -> int:
        return self.product.k

    @property
    def n(self) -> int:
        return self.product.n

    def operands(self, dims: Sequence[int]) -> Bytes:
        """A, packed B, extras, vectors, C."""
        vectors = (4 * self.n,) * self.norm.arguments
        *given, _ = self.product.operands(dims)
        return (*given, *vectors, span((dims[0], self.n), (dims[2], 1)))


@dataclass(frozen=True)
class NormedTile:
    """How a launch is divided.

    ``rows`` for a cluster of blocks, of which each has ``columns`` of them and of which ``split``
    share K; ``stages`` of the ring; ``groups`` of 128 threads that multiply, each its part of the
    rows, or of the columns if the tile is ``turned``: B is the left operand, so that there may be
    fewer than 64 rows.
    """

    rows: int = 64
    columns: int = 64
    stages: int = 4
    groups: int = 1
    split: int = 1
    turned: bool = False

    def __post_init__(self) -> None:
        tall, wide = (self.columns, self.rows) if self.turned else (self.rows, self.columns)
        if tall % (64 * self.groups) or wide % 8 or not 8 <= wide <= 256 or tall > 256:
            raise ValueError(f"no tile of {self.rows} x {self.columns} for {self.groups} groups")
        if not 2 <= self.stages <= 12:
            raise ValueError(f"a ring of {self.stages} stages")
        if not 1 <= self.split <= CLUSTER or self.rows % self.split:
            raise ValueError(f"{self.rows} rows cannot be added up by {self.split} blocks")

    @property
    def left(self) -> int:
        """Rows of the left operand of tensor cores."""
        return self.columns if self.turned else self.rows

    @property
    def right(self) -> int:
        return self.rows if self.turned else self.columns

    @property
    def pitch(self) -> int:
        """Floats from a row of sums in shared memory to the next, against conflicts of banks."""
        return self.columns + (4 if self.turned else 8)

    @property
    def threads(self) -> int:
        return 128 * (self.groups + 1)

    def sums(self, planes: int) -> int:
        """Bytes of the ring, or of the sums that take its place."""
        ring = self.stages * planes * (self.rows + self.columns) * DEPTH * 2
        return max(ring, self.rows * self.pitch * 4)

    def shared(self, planes: int, across: int, vectors: int) -> int:
        """Bytes of shared memory: alignment, ring, barriers, statistics of all pieces of rows,
        vectors as long as a piece."""
        statistics = across * (self.rows // self.split) * 8
        return 1024 + self.sums(planes) + 256 + statistics + vectors * self.columns * 4


@dataclass(frozen=True)
class WgmmaNormedMatmulSpec:
    """C[M, N] = norm(epilogue(A[M, K] x B[K, N])) * scale + bias with constant B.

    Args, dims: as `NormedMatmulTask`. ``product``: what is normalized; its ``c`` is the format of
    what is stored. ``tile``: of clusters that hold whole rows; None for parts of K by the product's
    own tile, whose sums wait in the workspace for a function that has whole rows (`apart.py`).
    """

    product: WgmmaMatmulSpec
    norm: Norm
    tile: NormedTile | None = NormedTile()

    def __post_init__(self) -> None:
        if self.tile is None:
            own = self.product.tile
            if own.split < 2 or own.within:
                raise ValueError(f"{own} leaves no parts of K in the workspace")
            return
        if self.blocks > CLUSTER:
            raise ValueError(f"{self.blocks} blocks in a cluster, at most {CLUSTER}")
        if self.tile.split > self.product.steps:
            raise ValueError(f"{self.product.steps} steps of K in {self.tile.split} parts")

    @property
    def across(self) -> int:
        """Pieces of a row."""
        assert self.tile is not None
        return -(-self.product.n // self.tile.columns)

    @property
    def blocks(self) -> int:
        """Of a cluster."""
        assert self.tile is not None
        return self.across * self.tile.split

    @property
    def shared(self) -> int:
        """Bytes of shared memory of a block."""
        assert self.tile is not None
        vectors = len(self.row_extras) + self.norm.arguments
        return self.tile.shared(self.product.planes, self.across, vectors)

    @property
    def row_extras(self) -> tuple[int, ...]:
        """Which extras of the epilogue are vectors of f32 as long as a row."""
        extras = enumerate(self.product.epilogue.extras)
        return tuple(i for i, e in extras if e.index == "row" and e.dtype == "f32")


def units(spec: WgmmaNormedMatmulSpec) -> str:
    """Clusters, each with whole rows; without them what the product has."""
    if spec.tile is None:
        return plain.units(spec.product)
    return f"ceildiv(p0, {spec.tile.rows})"


def scratch_bytes(_spec: WgmmaNormedMatmulSpec) -> str:
    """None on a CPU: a GPU kernel says its workspace itself."""
    return "0"


def candidates(task: Any, target: Target) -> tuple[WgmmaNormedMatmulSpec, ...]:
    """Each class of accuracy, where a cluster holds whole rows."""
    if not isinstance(task, NormedMatmulTask):
        return ()
    found = []
    for product in plain.candidates(task.product, target):
        tile = start(product)
        if -(-product.n // tile.columns) <= CLUSTER:
            found.append(WgmmaNormedMatmulSpec(product, task.norm, tile))
    return tuple(one for one in found if one.shared <= SHARED)


def start(product: WgmmaMatmulSpec) -> NormedTile:
    """A tile that fits any product of so many columns as a cluster has at most."""
    least = -(-product.n // (8 * CLUSTER)) * 8
    columns = min(max(least, 64), 256 if product.products == 1 else 128)
    stages = SHARED // (product.planes * (64 + columns) * DEPTH * 2 + 1024)
    return NormedTile(64, columns, min(stages, 4))


def stored(
    spec: WgmmaNormedMatmulSpec, operands: tuple[str, ...], result: str
) -> WgmmaNormedMatmulSpec | None:
    """The same with A and C in these formats; None where it cannot."""
    product = plain.stored(spec.product, operands, result)
    return None if product is None else replace(spec, product=product)


def accuracy(spec: WgmmaNormedMatmulSpec) -> float:
    """That of the product: statistics are those of f32 sums."""
    return plain.accuracy(spec.product)


def layout(spec: WgmmaNormedMatmulSpec) -> Layout:
    """Of packed B: the product's."""
    return plain.layout(spec.product)

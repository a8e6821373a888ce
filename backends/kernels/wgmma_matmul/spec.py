"""Spec of the product on Hopper's tensor cores, its tiles, and its division into them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from tilewright.backends.kernels.family import Layout
from tilewright.backends.kernels.tasks import MatmulTask
from tilewright.backends.llvm.epilogue import IDENTITY, Epilogue
from tilewright.backends.target import Target

PLANES = {1: 1, 3: 2, 6: 3}
"""Number of products -> numbers that each operand is split into."""

ACCURACY = {("bf16", 1): 1e-2, ("f16", 1): 1e-3, ("bf16", 3): 1e-5, ("bf16", 6): 0.0}
"""Element and number of products -> accuracy class."""

BYTES = {"f32": 4, "bf16": 2, "f16": 2}

DEPTH = 64
"""Elements of K in a step: a row of 128 bytes, the widest pattern of shared memory."""

SHARED = 232448
"""Bytes of shared memory that a block may have."""


CLUSTER = 8
"""Blocks of a cluster that every device grants."""

PAD = 8
"""Floats behind a row of sums in shared memory, against conflicts of banks."""


@dataclass(frozen=True)
class Tile:
    """How a launch is divided.

    ``rows`` x ``columns`` of C for a block at a time; ``stages`` of the ring; ``groups`` of 128
    threads that multiply, ``together`` on one tile or each on its own in turn; ``cluster`` blocks
    below each other that share B's tile; ``raster``: tiles (of clusters) below each other before
    the next column of them; ``split``: parts of K, summed in their order by a kernel of its own, or
    ``within`` a cluster of so many blocks, each of which then has one tile, through shared memory.
    """

    rows: int = 128
    columns: int = 128
    stages: int = 4
    groups: int = 2
    together: bool = True
    cluster: int = 1
    raster: int = 8
    split: int = 1
    within: bool = False

    def __post_init__(self) -> None:
        each = self.rows // self.groups if self.together else self.rows
        if each % 64 or self.columns % (32 * self.cluster) or self.columns > 256:
            raise ValueError(f"no tile of {self.rows} x {self.columns} for {self.groups} groups")
        if not 2 <= self.stages <= 12:
            raise ValueError(f"a ring of {self.stages} stages")
        alone = self.together and self.cluster == 1 and 1 < self.split <= CLUSTER
        if self.within and not (alone and self.rows % self.split == 0):
            raise ValueError(f"{self} cannot be summed within a cluster")

    def shared(self, planes: int) -> int:
        """Bytes of shared memory: alignment, ring, barriers, pieces of results."""
        ring = self.stages * planes * (self.rows + self.columns) * DEPTH * 2
        if self.within:
            return 1024 + max(ring, self.rows * (self.columns + PAD) * 4) + 256
        return 1024 + ring + 256 + self.groups * 4 * 16 * 40 * 4

    @property
    def threads(self) -> int:
        return 128 * (self.groups + 1)

    @property
    def blocks(self) -> int:
        """Of a cluster."""
        return self.split if self.within else self.cluster


@dataclass(frozen=True)
class WgmmaMatmulSpec:
    """C[M, N] = epilogue(A[M, K] x B[K, N]) with constant B, sums in f32.

    Args, dims: as `tasks.MatmulTask`. ``element``: what is multiplied, bf16 or f16. ``products``:
    1, or 3 or 6 of operands split into two or three bf16 numbers, without the smallest ones.
    ``a``: format of A, f32 or that of the elements; ``c``: of C, for one product any of BYTES.
    """

    k: int
    n: int
    products: int = 1
    element: str = "bf16"
    epilogue: Epilogue = IDENTITY
    a: str = "f32"
    c: str = "f32"
    tile: Tile = Tile()

    def __post_init__(self) -> None:
        if (self.element, self.products) not in ACCURACY:
            raise ValueError(f"no {self.products} products of {self.element}")
        if self.a not in ("f32", self.element) or self.c not in BYTES:
            raise ValueError(f"formats {self.a} and {self.c} with elements of {self.element}")
        if self.products > 1 and (self.a, self.c) != ("f32", "f32"):
            raise ValueError(f"{self.products} products of f32 numbers, not of {self.a}, {self.c}")
        if self.products > 1 and not self.tile.together:
            raise ValueError("groups that take turns multiply one product of each element")
        if not self.k or not self.n:
            raise ValueError("K and N must not be 0")
        if self.tile.split > self.steps:
            raise ValueError(f"{self.steps} steps of K in {self.tile.split} parts")

    @property
    def planes(self) -> int:
        return PLANES[self.products]

    @property
    def steps(self) -> int:
        """Of K."""
        return -(-self.k // DEPTH)

    @property
    def row(self) -> int:
        """Elements of a packed row: K filled up to 16 bytes."""
        return -(-self.k // 8) * 8

    @property
    def across(self) -> int:
        """Tiles beside each other."""
        return -(-self.n // self.tile.columns)


def units(spec: WgmmaMatmulSpec) -> str:
    """Tiles of a cluster (of its blocks that multiply the same rows of K), times the parts of K."""
    rows = spec.tile.rows * spec.tile.cluster
    return f"ceildiv(p0, {rows}) * {spec.across * spec.tile.split}"


def scratch_bytes(_spec: WgmmaMatmulSpec) -> str:
    """None on a CPU: a GPU kernel says its workspace itself."""
    return "0"


def candidates(task: Any, _target: Target) -> tuple[WgmmaMatmulSpec, ...]:
    """Each class of accuracy."""
    if not isinstance(task, MatmulTask) or not task.k or not task.n:
        return ()
    return tuple(
        WgmmaMatmulSpec(task.k, task.n, products, element, task.epilogue, tile=start(products))
        for element, products in ACCURACY
    )


def start(products: int) -> Tile:
    """A tile that fits any product."""
    return {1: Tile(128, 128, 6), 3: Tile(128, 128, 3), 6: Tile(128, 128, 2)}[products]


def stored(spec: WgmmaMatmulSpec, operands: tuple[str, ...], result: str) -> WgmmaMatmulSpec | None:
    """The same with A and C in these formats; None where it cannot."""
    if operands[0] not in ("f32", spec.element) or result not in BYTES:
        return None
    if spec.products > 1 and (operands[0], result) != ("f32", "f32"):
        return None
    return replace(spec, a=operands[0], c=result)


def accuracy(spec: WgmmaMatmulSpec) -> float:
    """By element and number of products."""
    return ACCURACY[spec.element, spec.products]


def layout(spec: WgmmaMatmulSpec) -> Layout:
    """Of packed B."""
    return Layout(
        f"{spec.element} columns of {spec.row}, {spec.planes} planes",
        2 * spec.planes * spec.n * spec.row,
    )

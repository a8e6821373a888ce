"""Spec of the product with 2:4 weights on Hopper's tensor cores, and its division into tiles."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tilewright.backends.kernels.family import Layout
from tilewright.backends.kernels.tasks import MatmulTask
from tilewright.backends.llvm.epilogue import IDENTITY, Epilogue
from tilewright.backends.target import Target
from tilewright.compiler.formats import named

ACCURACY = {"bf16": 1e-2, "f16": 1e-3}
"""Element -> accuracy class."""

FORMAT = "bf16-2in4"
"""The weight format whose codes it reads."""

BYTES = {"f32": 4, "bf16": 2, "f16": 2}

DEPTH = 64
"""Elements of K in a step: a row of A of 128 bytes, one of values of 64."""

ATOM = 64
"""Columns of B that a group of 128 threads multiplies at once."""

PLACES = 4 * 128
"""Bytes that say where the values of an atom are in a step: a word for each thread."""

SHARED = 232448
"""Bytes of shared memory that a block may have."""

PITCH = 20
"""Floats from row to row of a warp's 16 x 16 sums in shared memory, against conflicts of banks."""


@dataclass(frozen=True)
class SparseTile:
    """How a launch is divided.

    ``columns`` x ``rows`` of C for a block at a time, which ``columns / 64`` groups of 128 threads
    multiply; ``stages`` of the ring; ``cluster`` blocks beside each other that share the rows of A;
    ``raster``: tiles (of clusters) of columns before the next rows; ``split``: parts of K, summed
    in their order by a kernel of its own.
    """

    columns: int = 128
    rows: int = 128
    stages: int = 8
    cluster: int = 1
    raster: int = 8
    split: int = 1

    def __post_init__(self) -> None:
        if self.columns not in (ATOM, 2 * ATOM) or self.rows % (8 * self.cluster):
            raise ValueError(f"no tile of {self.columns} columns and {self.rows} rows")
        if not 8 <= self.rows <= 256 or not 2 <= self.stages <= 12:
            raise ValueError(f"a ring of {self.stages} stages for {self.rows} rows")

    @property
    def groups(self) -> int:
        return self.columns // ATOM

    @property
    def threads(self) -> int:
        return 128 * (self.groups + 1)

    @property
    def stage_bytes(self) -> int:
        """What a step brings: rows of A, values, their places."""
        return self.rows * 2 * DEPTH + self.columns * DEPTH + self.groups * PLACES

    @property
    def stage_pitch(self) -> int:
        """From stage to stage, for the patterns of shared memory."""
        return -(-self.stage_bytes // 1024) * 1024

    @property
    def shared(self) -> int:
        """Bytes of shared memory: alignment, ring, barriers, pieces of results."""
        pieces = self.groups * 4 * 16 * PITCH * 4
        return 1024 + self.stages * self.stage_pitch + 256 + pieces


@dataclass(frozen=True)
class WgmmaSparseMatmulSpec:
    """C[M, N] = epilogue(A[M, K] x B[K, N]), of every four k in a row at most two of a column of B
    other than 0; sums in f32.

    Args, dims: as `tasks.MatmulTask`. ``element``: what is multiplied, bf16 or f16. ``coded``:
    whether B is in FORMAT; otherwise it is the model's own. ``a``, ``c``: formats of A and C: f32
    or that of the elements.
    """

    k: int
    n: int
    element: str = "bf16"
    coded: bool = False
    epilogue: Epilogue = IDENTITY
    a: str = "f32"
    c: str = "f32"
    tile: SparseTile = SparseTile()

    def __post_init__(self) -> None:
        if self.element not in ACCURACY or (self.coded and self.element != "bf16"):
            raise ValueError(f"no 2:4 product of {self.element}{' codes' * self.coded}")
        if self.a not in ("f32", self.element) or self.c not in ("f32", self.element):
            raise ValueError(f"formats {self.a} and {self.c} with elements of {self.element}")
        if not self.k or not self.n:
            raise ValueError("K and N must not be 0")
        if self.tile.split > self.steps:
            raise ValueError(f"{self.steps} steps of K in {self.tile.split} parts")

    @property
    def steps(self) -> int:
        """Of K."""
        return -(-self.k // DEPTH)

    @property
    def row(self) -> int:
        """Elements of a row of A that was converted: K filled up to 16 bytes."""
        return -(-self.k // 8) * 8

    @property
    def values(self) -> int:
        """Of a column of B: two of every four k."""
        return 2 * -(-self.k // 4)

    @property
    def column(self) -> int:
        """Elements from column to column: values filled up to 16 bytes."""
        return -(-self.values // 8) * 8

    @property
    def atoms(self) -> int:
        """Of 64 columns, in pairs."""
        return 2 * -(-self.n // (2 * ATOM))

    @property
    def places_at(self) -> int:
        """Bytes of values, to a multiple of 128."""
        return -(-2 * self.n * self.column // 128) * 128

    @property
    def places(self) -> int:
        """Rows of PLACES bytes: the atoms of every step, and two that a cluster reads beyond."""
        return self.steps * self.atoms + 2

    @property
    def packed_bytes(self) -> int:
        return self.places_at + self.places * PLACES

    @property
    def down(self) -> int:
        """Tiles (of clusters) of columns."""
        return -(-self.n // (self.tile.columns * self.tile.cluster))


def units(spec: WgmmaSparseMatmulSpec) -> str:
    """Tiles of a cluster, times the parts of K."""
    return f"ceildiv(p0, {spec.tile.rows}) * {spec.down * spec.tile.split}"


def scratch_bytes(_spec: WgmmaSparseMatmulSpec) -> str:
    """None on a CPU: a GPU kernel says its workspace itself."""
    return "0"


def candidates(task: Any, _target: Target) -> tuple[WgmmaSparseMatmulSpec, ...]:
    """The one that reads the format."""
    if not isinstance(task, MatmulTask) or not task.k or not task.n:
        return ()
    if not named(FORMAT).supports(task.k, task.n):
        return ()
    return (WgmmaSparseMatmulSpec(task.k, task.n, coded=True, epilogue=task.epilogue),)


def fitted(task: Any, _target: Target, weights: np.ndarray) -> tuple[WgmmaSparseMatmulSpec, ...]:
    """Each element, for weights that are 2:4 themselves."""
    if not isinstance(task, MatmulTask) or weights.ndim != 2 or not two_of_four(weights):
        return ()
    return tuple(
        WgmmaSparseMatmulSpec(task.k, task.n, element, epilogue=task.epilogue)
        for element in ACCURACY
    )


def two_of_four(weights: np.ndarray) -> bool:
    """Whether at most two of every four rows of [K, N] are other than 0 in a column, and all are
    finite, also in f16."""
    if not weights.size or not (np.abs(weights) <= np.finfo(np.float16).max).all():
        return False
    # A few columns tell dense matrices apart from others.
    few = weights[:, : min(8, weights.shape[1])]
    return _two_of_four(few) and _two_of_four(weights)


def _two_of_four(weights: np.ndarray) -> bool:
    there = weights != 0
    edges = np.arange(0, len(there), 4)
    return bool((np.add.reduceat(there, edges, axis=0, dtype=np.uint8) <= 2).all())


def stored(
    spec: WgmmaSparseMatmulSpec, operands: tuple[str, ...], result: str
) -> WgmmaSparseMatmulSpec | None:
    """The same with A and C in these formats; None where it cannot."""
    if operands[0] not in ("f32", spec.element) or result not in ("f32", spec.element):
        return None
    return replace(spec, a=operands[0], c=result)


def accuracy(spec: WgmmaSparseMatmulSpec) -> float:
    """By element."""
    return ACCURACY[spec.element]


def weight_format(spec: WgmmaSparseMatmulSpec) -> str:
    """Name of the weight format."""
    return FORMAT if spec.coded else ""


def layout(spec: WgmmaSparseMatmulSpec) -> Layout:
    """Of packed B."""
    return Layout(f"{spec.element} 2:4 columns of {spec.column}", spec.packed_bytes)

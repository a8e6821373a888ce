"""Spec of the matmul with blocks of k apart, and its division into units."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tilewright.backends.kernels.block_matmul.spec import TILE_OF_SUMS
from tilewright.backends.kernels.family import Layout
from tilewright.backends.kernels.tasks import MatmulTask
from tilewright.backends.llvm import apart_blocks
from tilewright.backends.llvm.amx import ROWS, TILE_BYTES
from tilewright.backends.llvm.epilogue import IDENTITY, Epilogue
from tilewright.backends.llvm.frame import Units
from tilewright.backends.llvm.microkernel import PANEL
from tilewright.backends.llvm.narrow_blocks import NARROW, TILES
from tilewright.backends.llvm.sparse_blocks import LINE, STRIP
from tilewright.backends.target import Target
from tilewright.compiler.formats.pruning import block_sums
from tilewright.compiler.formats.sparse import Sparse

MOST = 0.6
"""Share of the weights from which on nothing is gained."""

CLOSER = 0.9
"""Share of the blocks of four k that follow each other from which on those of k apart gain
nothing."""

MOST_K = 1 << 16
"""Places have 16 bits."""

MOST_ROWS = 256
"""Most rows of a unit."""

PLACES = 8
"""Bytes of the places of a block's k."""

FORMAT = Sparse(8)

_ROWS_BYTES = 1 << 20
"""What they take of L2 at most."""


@dataclass(frozen=True)
class ApartMatmulSpec:
    """C[M, N] f32 = epilogue(A[M, K] f32 x B[K, N]), B in blocks of k that lie apart.

    Args: A, packed B, the epilogue's extras, then C.
    Dims: p0 = M, p1 = row stride of A, p2 = row stride of C (elements), then one row stride for
    each ``col`` and ``full`` extra in order. Columns of A and C are contiguous.

    ``blocks``: that are there, at most. ``wide``: columns of a block, 16 or 4.
    """

    k: int
    n: int
    blocks: int
    wide: int = STRIP
    epilogue: Epilogue = IDENTITY

    def __post_init__(self) -> None:
        if self.wide not in (STRIP, NARROW):
            raise ValueError(f"blocks of {self.wide} columns: expected {STRIP} or {NARROW}")
        if self.k > MOST_K:
            raise ValueError(f"sums of {self.k}: places of k have 16 bits")

    @property
    def steps(self) -> int:
        return apart_blocks.steps_of(self.k)

    @property
    def panels(self) -> int:
        return -(-self.n // PANEL)

    @property
    def strips(self) -> int:
        return self.panels * PANEL // self.wide

    @property
    def head_bytes(self) -> int:
        """Where strips begin and how many blocks they have; whole lines."""
        return -(-16 * self.strips // LINE) * LINE

    @property
    def column_bytes(self) -> int:
        """Sums and scales of the columns of a panel."""
        return 2 * 4 * PANEL

    @property
    def block_bytes(self) -> int:
        return 4 * self.wide

    @property
    def packed_bytes(self) -> int:
        lines = -(-PLACES * self.blocks // LINE) + -(-self.block_bytes * self.blocks // LINE)
        return self.head_bytes + self.panels * self.column_bytes + LINE * (lines + 2 * self.strips)

    @property
    def sum_bytes(self) -> int:
        """Scratch of sums of the tiles of rows that pass a strip together."""
        return TILES * TILE_OF_SUMS

    @property
    def most(self) -> int:
        """Blocks of a strip."""
        return -(-self.k // 4)

    @property
    def number_bytes(self) -> int:
        """Scratch of the numbers of a strip's blocks, 0 and on: what multiplies asks for them."""
        return -(-2 * self.most // LINE) * LINE

    @property
    def woven_bytes(self) -> int:
        """Scratch of a tile of rows, woven for a strip."""
        return self.most * LINE

    @property
    def scale_bytes(self) -> int:
        """Of the scales of rows and what they are found with."""
        return 4 * (self.rows_per_unit + ROWS)

    @property
    def panels_per_unit(self) -> int:
        """Few enough that several threads have work."""
        return 1 if self.panels < 8 else 2 if self.panels < 16 else 4 * -(-self.panels // 64)

    @property
    def row_bytes(self) -> int:
        """Of 16 rows."""
        return self.steps * TILE_BYTES

    @property
    def rows_per_unit(self) -> int:
        """At most this many, in whole groups of tiles that stay in L2."""
        group = TILES * ROWS
        return group * max(1, min(MOST_ROWS // group, _ROWS_BYTES // (TILES * self.row_bytes)))

    @property
    def division(self) -> Units:
        return Units(self.panels, self.panels_per_unit)


def units(spec: ApartMatmulSpec) -> str:
    """Number of work units, a formula over the dims."""
    return f"ceildiv(p0, {spec.rows_per_unit}) * {spec.division.across}"


def scratch_bytes(spec: ApartMatmulSpec) -> str:
    """Bytes of scratch a thread needs, a formula over the dims: sums, scales, rows."""
    groups = f"ceildiv(min(p0, {spec.rows_per_unit}), {TILES * ROWS})"
    head = spec.scale_bytes + spec.sum_bytes + spec.number_bytes + TILES * spec.woven_bytes
    return f"{head} + {groups} * {TILES * spec.row_bytes}"


def fitted(task: Any, _target: Target, weights: np.ndarray) -> tuple[ApartMatmulSpec, ...]:
    """Specs for weights that have zeros themselves, where four k that lie anywhere are fewer blocks
    than four that follow each other."""
    if not isinstance(task, MatmulTask) or weights.ndim != 2 or task.k > MOST_K:
        return ()
    there = (weights != 0).astype(np.int32)
    found = []
    wider = MOST * there.size
    for wide in (STRIP, NARROW):
        lines = (block_sums(there, 1, wide) > 0).sum(axis=0)
        # In whole blocks a strip: matrices pruned alike then have kernels in common.
        strips = max(len(lines), 1)
        blocks = -(-int((-(-lines // 4)).sum()) // strips) * strips
        near = int(np.count_nonzero(block_sums(there, 4, wide)))
        if blocks <= CLOSER * near and 4 * wide * blocks <= wider:
            found.append(ApartMatmulSpec(task.k, task.n, blocks, wide, task.epilogue))
            wider = CLOSER * 4 * wide * blocks
    return tuple(found)


def accuracy(_spec: ApartMatmulSpec) -> float:
    """Of products in 8 bits, which a format stands for."""
    return 0.0


def weight_format(_spec: ApartMatmulSpec) -> str:
    """Name of the weight format."""
    return FORMAT.name


def layout(spec: ApartMatmulSpec) -> Layout:
    """Of packed B."""
    return Layout(f"{spec.blocks} blocks of {spec.wide} columns of s8, k apart", spec.packed_bytes)

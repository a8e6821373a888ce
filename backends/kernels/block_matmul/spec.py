"""Spec of the matmul with blocks, and its division into units."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tilewright.backends.kernels.family import Layout
from tilewright.backends.kernels.tasks import MatmulTask
from tilewright.backends.llvm import bf16
from tilewright.backends.llvm.amx import ROWS, TILE_BYTES
from tilewright.backends.llvm.epilogue import IDENTITY, Epilogue
from tilewright.backends.llvm.frame import Units
from tilewright.backends.llvm.microkernel import PANEL
from tilewright.backends.llvm.narrow_blocks import HOLD, NARROW, TILES
from tilewright.backends.llvm.sparse_blocks import GROUPS, LINE, STRIP
from tilewright.backends.target import Target
from tilewright.compiler.formats import formats
from tilewright.compiler.formats.pruning import Blocks, block_sums
from tilewright.compiler.formats.sparse import Sparse

MOST = 0.6
"""Share of blocks from which on nothing is gained."""

FEWER = 0.8
"""Share of the weights of wide blocks from which on narrow ones have nothing to gain."""

MOST_GROUPS = 1 << 16
"""Numbers of blocks have 16 bits."""

MOST_ROWS = 256
"""Most rows of a unit."""

_ROWS_BYTES = 1 << 20
"""What they take of L2 at most."""

NUMBER = 2
"""Bytes of the number of a block."""


@dataclass(frozen=True)
class BlockMatmulSpec:
    """C[M, N] f32 = epilogue(A[M, K] f32 x B[K, N]), B in blocks of which some are there.

    Args: A, packed B, the epilogue's extras, then C.
    Dims: p0 = M, p1 = row stride of A, p2 = row stride of C (elements), then one row stride for
    each ``col`` and ``full`` extra in order. Columns of A and C are contiguous.

    ``blocks``: that are there, at most. ``format``: of the weights; None: those of the model, as
    they are, or rounded to bf16 (``short``). ``wide``: columns of a block, 16 or 4.
    """

    k: int
    n: int
    blocks: int
    format: Sparse | None = None
    short: bool = False
    epilogue: Epilogue = IDENTITY
    wide: int = STRIP

    def __post_init__(self) -> None:
        if self.wide not in (STRIP, NARROW):
            raise ValueError(f"blocks of {self.wide} columns: expected {STRIP} or {NARROW}")
        if self.format is not None and self.short:
            raise ValueError("weights are rounded to bf16 or to a format, not to both")
        if self.groups > MOST_GROUPS:
            raise ValueError(f"sums of {self.k}: numbers of blocks have 16 bits")

    @property
    def q(self) -> int:
        """k of a block."""
        if self.format is not None:
            return 32 // self.format.bits
        return 2 if self.short else 1

    @property
    def groups(self) -> int:
        """Of q k."""
        return -(-self.k // self.q)

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
        return 2 * 4 * PANEL if self.q == 4 else 0

    @property
    def packed_bytes(self) -> int:
        numbers = -(-NUMBER * self.blocks // LINE) + self.strips
        values = -(-self.block_bytes * self.blocks // LINE)
        values += self.strips if self.block_bytes < LINE else 0
        return self.head_bytes + self.panels * self.column_bytes + LINE * (values + numbers)

    @property
    def block_bytes(self) -> int:
        return 4 * self.wide

    @property
    def sum_bytes(self) -> int:
        """Scratch of sums of the tiles of rows that pass a strip together."""
        return TILE_OF_SUMS if self.wide == STRIP else TILES * TILE_OF_SUMS + HOLD

    @property
    def panels_per_unit(self) -> int:
        """Few enough that several threads have work."""
        return 1 if self.panels < 8 else 2 if self.panels < 16 else 4 * -(-self.panels // 64)

    @property
    def row_bytes(self) -> int:
        """Of 16 rows as f32, which is the most that any target takes."""
        return -(-self.k // GROUPS) * TILE_BYTES

    @property
    def rows_per_unit(self) -> int:
        """At most this many, in whole tiles that stay in L2."""
        return ROWS * max(1, min(MOST_ROWS // ROWS, _ROWS_BYTES // max(self.row_bytes, 1)))

    @property
    def division(self) -> Units:
        return Units(self.panels, self.panels_per_unit)


TILE_OF_SUMS = 4 * ROWS * PANEL
"""Bytes of the sums of 16 rows by a panel."""


def scale_bytes(spec: BlockMatmulSpec) -> int:
    """Of the scales of rows and what they are found with."""
    return 4 * (spec.rows_per_unit + ROWS) if spec.q == 4 else 0


def units(spec: BlockMatmulSpec) -> str:
    """Number of work units, a formula over the dims."""
    return f"ceildiv(p0, {spec.rows_per_unit}) * {spec.division.across}"


def scratch_bytes(spec: BlockMatmulSpec) -> str:
    """Bytes of scratch a thread needs, a formula over the dims: sums, scales, rows."""
    head = spec.sum_bytes + scale_bytes(spec)
    return f"{head} + ceildiv(min(p0, {spec.rows_per_unit}), {ROWS}) * {spec.row_bytes}"


def _read() -> tuple[Sparse, ...]:
    """The formats of this family: blocks of its size, or zeros of the model."""
    return tuple(f for f in formats().values() if isinstance(f, Sparse) and reads(f))


def reads(made: Sparse) -> bool:
    """Whether the blocks of a format are this family's."""
    if not isinstance(made.pattern, Blocks):
        return made.pattern is None
    return made.pattern.wide == STRIP and made.pattern.deep * made.bits == 32


def candidates(task: Any, _target: Target) -> tuple[BlockMatmulSpec, ...]:
    """One for each format that says how many blocks are left."""
    if not isinstance(task, MatmulTask) or task.k > MOST_GROUPS:
        return ()
    return tuple(
        BlockMatmulSpec(task.k, task.n, most_blocks(f, task.k, task.n), f, epilogue=task.epilogue)
        for f in _read()
        if f.pattern is not None and f.supports(task.k, task.n)
    )


def most_blocks(made: Sparse, k: int, n: int) -> int:
    """Of a format that prunes."""
    return made.kept(k, n) * made.bits // 8 // LINE


def fitted(task: Any, target: Target, weights: np.ndarray) -> tuple[BlockMatmulSpec, ...]:
    """Specs for weights that have blocks of zeros themselves: as they are, in bf16, in 8 bits."""
    if not isinstance(task, MatmulTask) or weights.ndim != 2 or task.k > MOST_GROUPS:
        return ()
    there = weights != 0
    if np.count_nonzero(there) > MOST * there.size:
        return ()
    kinds: list[tuple[int, Sparse | None]] = [(1, None)]
    kinds += [(2, None)] if bf16.has_dots(target) else []
    kinds += [(32 // f.bits, f) for f in _read() if f.pattern is None]
    found = []
    for q, made in kinds:
        wider = task.k * task.n
        for wide in (STRIP, NARROW):
            blocks = int(np.count_nonzero(block_sums(there.astype(np.int32), q, wide)))
            strips = -(-task.n // wide)
            if blocks > MOST * -(-task.k // q) * strips or wide * blocks > FEWER * wider:
                continue
            short = made is None and q == 2
            # As many for each strip: matrices pruned alike then have kernels in common.
            wider, blocks = wide * blocks, -(-blocks // strips) * strips
            spec = BlockMatmulSpec(task.k, task.n, blocks, made, short, task.epilogue, wide)
            found.append(spec)
    return tuple(found)


def accuracy(spec: BlockMatmulSpec) -> float:
    """Of weights that are rounded to bf16."""
    return 1e-2 if spec.short else 0.0


def weight_format(spec: BlockMatmulSpec) -> str:
    """Name of the weight format."""
    return spec.format.name if spec.format is not None else ""


def layout(spec: BlockMatmulSpec) -> Layout:
    """Of packed B."""
    kind = {1: "f32", 2: "bf16", 4: "s8"}[spec.q]
    narrow = " narrow" if spec.wide == NARROW else ""
    return Layout(f"{spec.blocks}{narrow} blocks of {kind}", spec.packed_bytes)

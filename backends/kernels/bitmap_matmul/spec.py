"""Spec of the matmul with bitmaps, and its division into units."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tilewright.backends.kernels.family import Layout
from tilewright.backends.kernels.tasks import MatmulTask
from tilewright.backends.llvm import amx, bf16, gemm, int8_scaled_product
from tilewright.backends.llvm.amx import ROWS, TILE_BYTES
from tilewright.backends.llvm.bf16_block import row_tile_bytes
from tilewright.backends.llvm.bf16_gemm import SCRATCH_BYTES
from tilewright.backends.llvm.bitmap_dots import FEW, row_bytes, wide_panels
from tilewright.backends.llvm.bitmap_lines import (
    CELL,
    LINE,
    OVERRUN,
    PER_GROUP,
    expands,
    mask_bytes,
    serves,
)
from tilewright.backends.llvm.epilogue import IDENTITY, Epilogue
from tilewright.backends.llvm.frame import Units
from tilewright.backends.llvm.int8_block import MOST_ROW_BYTES
from tilewright.backends.llvm.int8_block import steps as int8_steps
from tilewright.backends.llvm.microkernel import PANEL
from tilewright.backends.llvm.widened import panel_bytes
from tilewright.backends.target import Target
from tilewright.compiler.formats import formats
from tilewright.compiler.formats.pruning import Blocks
from tilewright.compiler.formats.sparse import Sparse

MOST = 0.85
"""Share of weights other than zero from which on nothing is gained."""

FEW_BESIDE_TILES = 3
"""Most rows in bf16 where there are tiles: 4 take as long as 8 on these."""

MOST_ROWS = 256
"""Most rows of a unit, which expands its panels again."""

_PANELS_BYTES = 1 << 19
"""What expanded panels of a unit take of L2 at most."""


@dataclass(frozen=True)
class BitmapMatmulSpec:
    """C[M, N] f32 = epilogue(A[M, K] f32 x B[K, N]), B with zeros that are not stored.

    Args: A, packed B, the epilogue's extras, then C.
    Dims: p0 = M, p1 = row stride of A, p2 = row stride of C (elements), then one row stride for
    each ``col`` and ``full`` extra in order. Columns of A and C are contiguous.

    ``lines``: of 64 bytes, which values of all panels take at most. ``format``: of the weights;
    None: those of the model, as they are, or rounded to bf16 (``short``).
    """

    k: int
    n: int
    lines: int
    format: Sparse | None = None
    short: bool = False
    epilogue: Epilogue = IDENTITY

    def __post_init__(self) -> None:
        if self.format is not None and self.short:
            raise ValueError("weights are rounded to bf16 or to a format, not to both")

    @property
    def q(self) -> int:
        """k of an element of 4 bytes, as of bitmap_lines."""
        if self.format is not None:
            return 32 // self.format.bits
        return 2 if self.short else 1

    @property
    def panels(self) -> int:
        return -(-self.n // PANEL)

    @property
    def groups(self) -> int:
        """Of q k."""
        return -(-self.k // self.q)

    @property
    def cells(self) -> int:
        """Of a panel."""
        return -(-self.groups // CELL)

    @property
    def head_bytes(self) -> int:
        """Where panels begin, i64 [panels]; whole lines."""
        return -(-8 * self.panels // LINE) * LINE

    @property
    def column_bytes(self) -> int:
        """Sums and scales of the columns of a panel."""
        return 2 * 4 * PANEL if self.q == 4 else 0

    @property
    def mask_bytes(self) -> int:
        """Bitmaps of a panel; whole lines."""
        return -(-self.cells * CELL * PER_GROUP * mask_bytes(self.q) // LINE) * LINE

    @property
    def packed_bytes(self) -> int:
        fixed = self.panels * (self.column_bytes + self.mask_bytes)
        return self.head_bytes + fixed + self.lines * LINE + -(-OVERRUN // LINE) * LINE

    @property
    def wide_bytes(self) -> int:
        """Scratch of an expanded panel, of any target."""
        if self.q == 4:
            return int8_scaled_product.panel_bytes(self.k, False)
        return panel_bytes(self.k, False)

    @property
    def panels_per_unit(self) -> int:
        """In fours where there are many; as many as fit L2 once they are expanded."""
        if self.panels < 8:
            return 1
        wanted = 2 if self.panels < 32 else 4 * -(-self.panels // 64)
        return max(1, min(wanted, _PANELS_BYTES // max(self.wide_bytes // 2, 1)))

    @property
    def rows_per_unit(self) -> int:
        """At most this many, in pairs of tiles: their block keeps to 1.25 MiB of L2."""
        if self.q == 1:
            return max(14, min(224, (1 << 17) // max(self.k, 1) // 14 * 14))
        row = row_tile_bytes(self.k, 1) if self.q == 2 else int8_steps(self.k) * TILE_BYTES
        return 2 * ROWS * max(1, min(MOST_ROWS // (2 * ROWS), (5 << 18) // (2 * max(row, 1))))

    @property
    def division(self) -> Units:
        return Units(self.panels, self.panels_per_unit)

    @property
    def tile_bytes(self) -> int:
        """Scratch before all else: sums of a block, and of few rows."""
        least = max(r * wide_panels(r) for r in range(1, FEW + 1)) * row_bytes()
        tiles = max(gemm.TILE_BYTES, SCRATCH_BYTES, int8_scaled_product.SCRATCH_BYTES, least)
        return -(-tiles // LINE) * LINE

    @property
    def scale_bytes(self) -> int:
        """Scales of rows and what they are found with."""
        return -(-4 * (self.rows_per_unit + ROWS) // LINE) * LINE if self.q == 4 else 0


def units(spec: BitmapMatmulSpec) -> str:
    """Number of work units, a formula over the dims."""
    return f"ceildiv(p0, {spec.rows_per_unit}) * {spec.division.across}"


def scratch_bytes(spec: BitmapMatmulSpec) -> str:
    """Bytes of scratch a thread needs, a formula over the dims: tiles, scales, expanded panels,
    rows in their own form."""
    head = spec.tile_bytes + spec.scale_bytes + spec.panels_per_unit * spec.wide_bytes
    if spec.q == 1:
        return f"{head}"
    of_row = ROWS * MOST_ROW_BYTES * int8_steps(spec.k)
    tile = row_tile_bytes(spec.k, 1) if spec.q == 2 else of_row
    return f"{head} + ceildiv(min(p0, {spec.rows_per_unit}), {ROWS}) * {tile}"


def candidates(task: Any, _target: Target) -> tuple[BitmapMatmulSpec, ...]:
    """One for each format that says how many weights are left."""
    if not isinstance(task, MatmulTask):
        return ()
    return tuple(
        BitmapMatmulSpec(task.k, task.n, most_lines(f, task.k, task.n), f, epilogue=task.epilogue)
        for f in _read()
        if f.pattern is not None and f.supports(task.k, task.n)
    )


def _read() -> tuple[Sparse, ...]:
    """The formats of this family: zeros lie anywhere."""
    known = (f for f in formats().values() if isinstance(f, Sparse))
    return tuple(f for f in known if not isinstance(f.pattern, Blocks))


def most_lines(made: Sparse, k: int, n: int) -> int:
    """Lines of values of a format: those of its weights, and one a panel that is not full."""
    return -(-made.kept(k, n) * made.bits // 8 // LINE) + -(-n // PANEL)


def fitted(task: Any, target: Target, weights: np.ndarray) -> tuple[BitmapMatmulSpec, ...]:
    """Specs for weights that have zeros themselves: as they are, in bf16, and in 8 bits."""
    if not isinstance(task, MatmulTask) or weights.ndim != 2 or not serves(target):
        return ()
    there = np.count_nonzero(weights, axis=0)
    if there.sum() > MOST * weights.size:
        return ()
    edges = np.arange(0, weights.shape[1], PANEL)
    counts = np.add.reduceat(there, edges)
    kinds: list[tuple[int, Sparse | None]] = [(4, None), (2, None)]
    kinds += [(f.bits // 8, f) for f in _read() if f.pattern is None]
    return tuple(
        BitmapMatmulSpec(
            task.k,
            task.n,
            _even(int((-(-counts * size // LINE)).sum()), len(counts)),
            made,
            short=made is None and size == 2,
            epilogue=task.epilogue,
        )
        for size, made in kinds
        if size == 4 or made is not None or bf16.has_dots(target)
    )


def _even(count: int, panels: int) -> int:
    """As many lines for each panel: matrices pruned alike then have kernels in common."""
    return -(-count // panels) * panels


def accuracy(spec: BitmapMatmulSpec) -> float:
    """Of weights that are rounded to bf16."""
    return 1e-2 if spec.short else 0.0


def weight_format(spec: BitmapMatmulSpec) -> str:
    """Name of the weight format."""
    return spec.format.name if spec.format is not None else ""


def layout(spec: BitmapMatmulSpec) -> Layout:
    """Of packed B."""
    kind = {1: "f32", 2: "bf16", 4: "s8"}[spec.q]
    return Layout(f"bitmaps of {kind}, {spec.lines} lines", spec.packed_bytes)


def few(spec: BitmapMatmulSpec, target: Target) -> int:
    """Most rows that meet lines as they are expanded."""
    fast = expands(target, spec.q)
    if spec.q == 2:
        fast = fast and bf16.has_dots(target)
    elif spec.q == 4:
        fast = fast and "avx512vnni" in target.all_features
    if spec.q == 2 and amx.has_bf16(target):
        return FEW_BESIDE_TILES if fast else 0
    return FEW if fast else 0

"""Spec of the 8-bit matmul with scales, and its division into units."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from tilewright.backends.kernels.family import Layout
from tilewright.backends.kernels.tasks import MatmulTask
from tilewright.backends.llvm import formats, int8_normed_rows
from tilewright.backends.llvm.amx import ROWS, TILE_BYTES
from tilewright.backends.llvm.bf16_block import STEP as TAIL
from tilewright.backends.llvm.epilogue import IDENTITY, Epilogue
from tilewright.backends.llvm.int8 import STEP
from tilewright.backends.llvm.int8_block import MOST_ROW_BYTES, steps
from tilewright.backends.llvm.int8_rewritten_rows import BLOCK, KINDS, room_bytes
from tilewright.backends.llvm.int8_scaled_product import SCRATCH_BYTES, panel_bytes
from tilewright.backends.llvm.microkernel import PANEL
from tilewright.backends.llvm.normalization import Norm
from tilewright.backends.target import Target
from tilewright.compiler.formats import copies, named, outliers
from tilewright.compiler.formats.format import WeightFormat

REWRITES = {
    "range": "w8a8z-sym",
    "smooth": "w8a8-smooth",
    "rotate": f"w8a8-h{BLOCK}",
    "static": "w8a8-static",
}
"""Formats by what becomes of rows."""


@dataclass(frozen=True)
class ScaledMatmulSpec:
    """C[M, N] = epilogue(A[M, K] x B[K, N]), A quantized by row, B s8 with a scale a column.

    Args: A, packed B, the epilogue's extras, the vectors of ``norm``, then C.
    Dims: p0 = M, p1 = row stride of A, p2 = row stride of C (elements), then one row stride for
    each ``col`` and ``full`` extra in order. Columns of A and C are contiguous.

    ``outliers``: channels that are multiplied in bf16, at most 32. ``copies``: further channels, in
    whole steps, that take what is too much for those they are copies of. ``rewrite``: what becomes
    of rows first (llvm.int8_rewritten_rows.KINDS). ``norm``: A's rows, in f32, are normalized
    before all that. ``a``, ``c``: formats of A and C in memory (llvm.formats). ``rows``,
    ``panels``: rows and panels of 32 columns of a unit at most; 0: see below.
    """

    k: int
    n: int
    outliers: int = 0
    copies: int = 0
    epilogue: Epilogue = IDENTITY
    a: str = formats.F32_FORMAT
    c: str = formats.F32_FORMAT
    rows: int = 0
    panels: int = 0
    rewrite: str = ""
    norm: Norm | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.outliers <= TAIL or self.outliers > self.k:
            raise ValueError(f"{self.outliers} outlier channels of {self.k}: at most {TAIL}")
        if self.copies % STEP or (self.copies and self.outliers):
            raise ValueError(f"{self.copies} copies: expected a multiple of {STEP}, no outliers")
        if self.rewrite not in KINDS or (self.rewrite and (self.copies or self.outliers)):
            kinds = ", ".join(repr(kind) for kind in KINDS)
            raise ValueError(f"rows are read as {self.rewrite!r}: expected one of {kinds}, alone")
        if self.rewrite == "rotate" and self.k % BLOCK:
            raise ValueError(f"{self.k} columns are rotated: expected a multiple of {BLOCK}")
        if self.rows % (2 * ROWS):
            raise ValueError(f"units of {self.rows} rows: expected a multiple of {2 * ROWS}")
        formats.check(self.a, self.c)
        if self.norm is not None and (self.a != formats.F32_FORMAT or not self.k):
            raise ValueError("rows to normalize are f32 and not empty")

    @property
    def format(self) -> WeightFormat:
        """Of its weights."""
        return named(weight_format(self))

    @property
    def depth(self) -> int:
        """K in whole steps, with copies."""
        return STEP * steps(self.k) + self.copies

    @property
    def panel_count(self) -> int:
        return -(-self.n // PANEL)

    @property
    def panel_bytes(self) -> int:
        return panel_bytes(self.depth, self.outliers > 0)

    @property
    def table_bytes(self) -> int:
        """Behind the panels, 4 bytes a channel: which ones are quantized, or their shares, or their
        factors."""
        own = self.outliers or self.copies or self.rewrite in ("smooth", "rotate", "static")
        return 4 * STEP * steps(self.k) if own else 0

    @property
    def packed_bytes(self) -> int:
        behind = self.table_bytes + 4 * self.outliers + 3 * 4 * self.copies
        return self.panel_count * self.panel_bytes + behind

    @property
    def panels_per_unit(self) -> int:
        """As int8_matmul: few enough for two threads, in fours where there are many."""
        if self.panels:
            return self.panels
        if self.panel_count < 8:
            return 1
        return 2 if self.panel_count < 32 else 4 * -(-self.panel_count // 64)

    @property
    def rows_per_unit(self) -> int:
        """At most this many, in pairs of tiles: as int8_matmul, 1.25 of 2 MiB of L2."""
        if self.rows:
            return self.rows
        pair = 2 * ROWS * max(self.depth, STEP)
        return 2 * ROWS * max(1, min(16, (5 << 18) // pair))


def weight_format(spec: ScaledMatmulSpec) -> str:
    """Name of the format of the weights."""
    if spec.rewrite:
        return REWRITES[spec.rewrite]
    if spec.copies:
        return f"w8a8-d{spec.copies}"
    return f"w8a8-o{spec.outliers}" if spec.outliers else "w8a8-sym"


def units(spec: ScaledMatmulSpec) -> str:
    """Number of work units, a formula over the dims."""
    across = -(-spec.panel_count // spec.panels_per_unit)
    return f"ceildiv(p0, {spec.rows_per_unit}) * {across}"


def row_bytes(spec: ScaledMatmulSpec) -> int:
    """Bytes of the scales of a block of rows, a whole number of lines, and of their middles."""
    return -(-4 * spec.rows_per_unit // 64) * 64


def scratch_bytes(spec: ScaledMatmulSpec) -> str:
    """Bytes of scratch a thread needs, a formula over the dims: blocks of C, scales and middles of
    rows, what rewriting takes, blocks of A."""
    tile = steps(spec.depth) * ROWS * MOST_ROW_BYTES + (TILE_BYTES if spec.outliers else 0)
    tiles = f"ceildiv(min(p0, {spec.rows_per_unit}), {ROWS})"
    head = SCRATCH_BYTES + 2 * row_bytes(spec) + 4 * ROWS + room_bytes(spec.rewrite, spec.k)
    return f"{head + norm_bytes(spec)} + {tiles} * {tile}"


def norm_bytes(spec: ScaledMatmulSpec) -> int:
    """Scratch of normalized rows."""
    return int8_normed_rows.room_bytes(spec.k) if spec.norm is not None else 0


def variants(spec: ScaledMatmulSpec, target: Target) -> tuple[ScaledMatmulSpec, ...]:
    """``spec`` and other divisions of the same work; all compute the same bits."""
    whole = replace(spec, rows=4 * ROWS, panels=spec.panel_count)
    return (spec, whole) if spec.panel_count > 1 else (spec,)


def candidates(task: Any, _target: Target) -> tuple[ScaledMatmulSpec, ...]:
    """One a format."""
    if not isinstance(task, MatmulTask):
        return ()
    k, n, epilogue = task.k, task.n, task.epilogue
    split = (f.count for f in outliers.FORMATS if f.supports(k, n))
    copied = (f.count for f in copies.FORMATS if f.supports(k, n))
    return (
        ScaledMatmulSpec(k, n, epilogue=epilogue),
        *(ScaledMatmulSpec(k, n, outliers=o, epilogue=epilogue) for o in split),
        *(ScaledMatmulSpec(k, n, copies=c, epilogue=epilogue) for c in copied),
        *(
            ScaledMatmulSpec(k, n, epilogue=epilogue, rewrite=kind)
            for kind, name in REWRITES.items()
            if named(name).supports(k, n)
        ),
    )


def stored(
    spec: ScaledMatmulSpec, operands: tuple[str, ...], result: str
) -> ScaledMatmulSpec | None:
    """The same with A and C in these formats. A in bf16 is rounded twice; 8 bits are the coarser
    rounding by far."""
    return replace(spec, a=operands[0], c=result)


def normed(spec: ScaledMatmulSpec, norm: Norm, width: int) -> ScaledMatmulSpec | None:
    """The same with rows of ``width`` elements normalized first."""
    if spec.k != width or spec.a != formats.F32_FORMAT:
        return None
    return replace(spec, norm=norm)


def layout(spec: ScaledMatmulSpec) -> Layout:
    """Of packed B."""
    tail = f", {spec.outliers} channels in bf16" if spec.outliers else ""
    tail = f", copies of {spec.copies} channels" if spec.copies else tail
    tail = f", {REWRITES[spec.rewrite]}" if spec.table_bytes and spec.rewrite else tail
    return Layout(f"s8 panels of 32 columns with scales{tail}", spec.packed_bytes)


def strips(spec: ScaledMatmulSpec) -> int:
    """Panels follow each other; what may lie behind them has no place in a strip."""
    behind = spec.packed_bytes - spec.panel_count * spec.panel_bytes
    return 0 if behind else spec.rows_per_unit

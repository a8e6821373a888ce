"""Spec of the bf16 matmul with constant B, and its division into units."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from tilewright.backends.kernels.family import Layout
from tilewright.backends.kernels.tasks import MatmulTask
from tilewright.backends.llvm import bf16, formats
from tilewright.backends.llvm.amx import ROWS
from tilewright.backends.llvm.bf16_block import STEP, row_tile_bytes, steps
from tilewright.backends.llvm.bf16_gemm import SCRATCH_BYTES
from tilewright.backends.llvm.epilogue import IDENTITY, Epilogue
from tilewright.backends.llvm.microkernel import PANEL
from tilewright.backends.llvm.normalization import STATISTICS_BYTES, Norm
from tilewright.backends.target import Target

ACCURACY = {1: 1e-2, 3: 1e-5, 6: 0.0}
"""Accuracy class of each number of products."""

DIRECT_PANELS = 8
"""Most panels for which tiles are loaded from A itself. 128 x 384 in bf16 by 64, 128, 256, 384 and
1536 columns takes 0.68, 0.84, 0.97, 1.02 and 1.10 of the time with a copy."""


@dataclass(frozen=True)
class Bf16MatmulSpec:
    """C[M, N] f32 = epilogue(A[M, K] f32 x B[K, N]), products in bf16, sums in f32.

    Args: A, packed B, the epilogue's extras, the vectors of ``norm``, then C.
    Dims: p0 = M, p1 = row stride of A, p2 = row stride of C (elements), then one row stride for
    each ``col`` and ``full`` extra in order. Columns of A and C are contiguous.
    Leading dimensions of a contiguous A are folded into M by the caller.

    ``products``: 1 rounds both operands to bf16; 3 splits each into two bf16 values and leaves out
    the product of the two small ones; 6 splits into three and leaves out what is below f32.
    ``a``, ``c``: formats of A and C in memory (llvm.formats); A in bf16 is for one product.
    ``norm``: A's rows, in f32, are normalized while they are converted.
    """

    k: int
    n: int
    products: int = 1
    epilogue: Epilogue = IDENTITY
    a: str = formats.F32_FORMAT
    c: str = formats.F32_FORMAT
    norm: Norm | None = None

    def __post_init__(self) -> None:
        if self.products not in bf16.PLANES:
            raise ValueError(f"products must be one of 1, 3, 6, not {self.products}")
        formats.check(self.a, self.c)
        if self.products > 1 and self.a != formats.F32_FORMAT:
            raise ValueError(f"{self.products} products split f32 values, not {self.a} ones")
        if self.norm is not None and (self.a != formats.F32_FORMAT or not self.k):
            raise ValueError("rows to normalize are f32 and not empty")

    @property
    def direct(self) -> bool:
        """Whether tiles are loaded from A itself: bf16 already, in whole steps, and for few panels.

        Rows that lie apart load more slowly than a copy with tiles in one piece, which every panel
        after the first ones gains from.
        """
        whole = self.a == formats.BF16_FORMAT and self.k > 0 and self.k % STEP == 0
        return whole and self.panels <= DIRECT_PANELS

    @property
    def planes(self) -> int:
        """bf16 values that each operand is split into."""
        return bf16.PLANES[self.products]

    @property
    def steps(self) -> int:
        return steps(self.k)

    @property
    def panels(self) -> int:
        return -(-self.n // PANEL)

    @property
    def panels_per_unit(self) -> int:
        """Few enough that one block of rows still gives two threads even work; in fours where
        there are many, since a matrix-vector product streams four panels at once."""
        if self.panels < 8:
            return 1
        return 2 if self.panels < 32 else 4 * -(-self.panels // 64)

    @property
    def rows_per_unit(self) -> int:
        """At most this many rows a unit, in pairs of tiles: their block keeps to 1.25 of the
        2 MiB of L2 that machines with AMX have, since every block of rows reads all of B."""
        bytes_a = 2 * max(row_tile_bytes(self.k, self.planes), 1)
        return 2 * ROWS * max(1, min(8, (5 << 18) // bytes_a))


def units(spec: Bf16MatmulSpec) -> str:
    """Number of work units, a formula over the dims."""
    across = -(-spec.panels // spec.panels_per_unit)
    return f"ceildiv(p0, {spec.rows_per_unit}) * {across}"


def scratch_bytes(spec: Bf16MatmulSpec) -> str:
    """Bytes of scratch a thread needs, a formula over the dims: blocks of C, statistics of rows to
    normalize, a block of A."""
    tiles = f"ceildiv(min(p0, {spec.rows_per_unit}), {ROWS})"
    return f"{block_offset(spec)} + {tiles} * {row_tile_bytes(spec.k, spec.planes)}"


def block_offset(spec: Bf16MatmulSpec) -> int:
    """Where A's block lies in scratch."""
    return SCRATCH_BYTES + (STATISTICS_BYTES if spec.norm is not None else 0)


def candidates(task: Any, _target: Target) -> tuple[Bf16MatmulSpec, ...]:
    """Each number of products."""
    if not isinstance(task, MatmulTask):
        return ()
    return tuple(Bf16MatmulSpec(task.k, task.n, p, task.epilogue) for p in ACCURACY)


def stored(spec: Bf16MatmulSpec, operands: tuple[str, ...], result: str) -> Bf16MatmulSpec | None:
    """The same with A and C in these formats; None where it cannot."""
    if spec.products > 1 and (*operands, result) != (formats.F32_FORMAT,) * 2:
        return None
    return replace(spec, a=operands[0], c=result)


def normed(spec: Bf16MatmulSpec, norm: Norm, width: int) -> Bf16MatmulSpec | None:
    """The same with rows of ``width`` elements normalized first."""
    if spec.k != width or spec.a != formats.F32_FORMAT:
        return None
    return replace(spec, norm=norm)


def accuracy(spec: Bf16MatmulSpec) -> float:
    """By the number of products."""
    return ACCURACY[spec.products]


def layout(spec: Bf16MatmulSpec) -> Layout:
    """Of packed B: its planes by steps of K."""
    size = 2 * spec.panels * PANEL * spec.steps * STEP * spec.planes
    return Layout(f"bf16 panels of 32 columns, {spec.planes} planes", size)


def strips(spec: Bf16MatmulSpec) -> int:
    """Panels follow each other."""
    return spec.rows_per_unit

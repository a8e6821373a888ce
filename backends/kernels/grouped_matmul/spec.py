"""Spec of the matmul with group-wise integer weights, and its division into units."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tilewright.backends.kernels.family import Layout
from tilewright.backends.kernels.tasks import MatmulTask
from tilewright.backends.llvm import bf16_gemm, gemm
from tilewright.backends.llvm.amx import ROWS
from tilewright.backends.llvm.bf16_block import row_tile_bytes, steps
from tilewright.backends.llvm.epilogue import IDENTITY, Epilogue
from tilewright.backends.llvm.grouped_codes import PIECE, Panel
from tilewright.backends.llvm.microkernel import PANEL
from tilewright.backends.target import Target
from tilewright.compiler.formats import formats
from tilewright.compiler.formats.activations import Int8, Rounded
from tilewright.compiler.formats.halves import Halves
from tilewright.compiler.formats.integers import Integers
from tilewright.compiler.formats.sliced import GROUP, Sliced, every

BITS = (2, 3, 4, 5, 6, 8)
"""Of codes that are no slices."""

FEW = {True: 8, False: 4}
"""Up to so many rows the codes are multiplied as they are, where A is read as int8 and as bf16;
more rows multiply a panel that is brought to bf16 or f32 first."""

MOST_ROWS = 256
"""Most rows of a unit; every block of rows brings B to bf16 or f32 again."""

_PANELS_BYTES = 1 << 19
"""What the panels of a unit, brought to bf16 or f32, take of L2 at most."""


@dataclass(frozen=True)
class GroupedMatmulSpec:
    """C[M, N] f32 = epilogue(A[M, K] f32 x B[K, N]), B in a format of compiler.formats.integers.

    Args: A, packed B, the epilogue's extras, then C.
    Dims: p0 = M, p1 = row stride of A, p2 = row stride of C (elements), then one row stride for
    each ``col`` and ``full`` extra in order. Columns of A and C are contiguous.

    ``bits``, ``group``, ``symmetric``: as in `Integers`; ``int8``: whether the format reads A as
    8-bit codes by blocks of a group, else rounded to bf16. ``slices``: of `Sliced` codes, of which
    ``bits`` are read; () for others. ``halves``: 2 bits, in `Halves`.
    """

    k: int
    n: int
    bits: int
    group: int
    int8: bool = False
    symmetric: bool = False
    epilogue: Epilogue = IDENTITY
    slices: tuple[int, ...] = ()
    halves: bool = False

    def __post_init__(self) -> None:
        if self.halves and (self.bits != 2 or self.slices or self.symmetric):
            raise ValueError("zero-points of a half step are for codes of 2 bits")
        if self.bits not in (self.slices or BITS):
            raise ValueError(f"codes of {self.bits} bits: expected 2, 3, 4, 5, 6 or 8")
        if self.group <= 0 or self.group % PIECE:
            raise ValueError(f"groups of {self.group}: expected a multiple of {PIECE}")

    @property
    def format(self) -> Integers | Sliced | Halves:
        """The weight format."""
        reads = Int8(self.group) if self.int8 else Rounded()
        if self.halves:
            return Halves(self.group, reads)
        if self.slices:
            return Sliced(self.bits, self.slices, reads)
        return Integers(self.bits, self.group, self.symmetric, reads)

    @property
    def few(self) -> int:
        """Most rows that are multiplied with the codes themselves."""
        return FEW[self.int8]

    @property
    def panels(self) -> int:
        return -(-self.n // PANEL)

    @property
    def panel(self) -> Panel:
        """The packed bytes of one panel."""
        of = (self.k, self.bits, self.group, self.symmetric, self.slices, self.panels)
        return Panel(*of, halves=self.halves)

    @property
    def panels_per_unit(self) -> int:
        """In fours where there are many, since few rows stream four panels at once; as many as fit
        L2 once they are widened."""
        if self.panels < 8:
            return 1
        wanted = 2 if self.panels < 32 else 4 * -(-self.panels // 64)
        return max(1, min(wanted, _PANELS_BYTES // (2 * PANEL * max(self.panel.depth, 1))))

    @property
    def rows_per_unit(self) -> int:
        """At most this many rows, in pairs of tiles: their block keeps to 1.25 MiB of L2."""
        bytes_a = 2 * max(row_tile_bytes(self.k, 1), 1)
        return 2 * ROWS * max(1, min(MOST_ROWS // (2 * ROWS), (5 << 18) // bytes_a))

    @property
    def wide_bytes(self) -> int:
        """Scratch of the widened panels of a unit, f32 or bf16: as many as a unit has in bf16, half
        as many in f32."""
        return max(self.panels_per_unit, 2) * steps(self.panel.depth) * 32 * PANEL * 2


def units(spec: GroupedMatmulSpec) -> str:
    """Number of work units, a formula over the dims."""
    across = -(-spec.panels // spec.panels_per_unit)
    return f"ceildiv(p0, {spec.rows_per_unit}) * {across}"


def head_bytes(spec: GroupedMatmulSpec) -> int:
    """Scratch before widened panels and rows of A: tiles of sums."""
    return -(-max(bf16_gemm.SCRATCH_BYTES, gemm.TILE_BYTES) // 64) * 64


def few_bytes(spec: GroupedMatmulSpec) -> int:
    """Scratch of few rows: codes or bf16 pairs, factors and sums of their groups."""
    return spec.few * spec.panel.row_bytes


def scratch_bytes(spec: GroupedMatmulSpec) -> str:
    """Bytes of scratch a thread needs, a formula over the dims."""
    tiles = f"ceildiv(min(p0, {spec.rows_per_unit}), {ROWS})"
    many = f"{spec.wide_bytes} + {tiles} * {row_tile_bytes(spec.k, 1)}"
    return f"{head_bytes(spec)} + max({few_bytes(spec)}, {many})"


def candidates(task: Any, _target: Target) -> tuple[GroupedMatmulSpec, ...]:
    """One spec for each integer format with groups, for those that a CodedMatmulTask names, and for
    all slices."""
    if not isinstance(task, MatmulTask):
        return ()
    known = dict.fromkeys((*formats().values(), *getattr(task, "rounding", ())))
    sliced = (f for f in every() if f.supports(task.k, task.n))
    return (
        tuple(
            GroupedMatmulSpec(
                task.k,
                task.n,
                f.bits,
                f.group,
                isinstance(f.reads, Int8),
                f.symmetric,
                task.epilogue,
            )
            for f in known
            if isinstance(f, Integers) and _read(f) and f.supports(task.k, task.n)
        )
        + tuple(
            GroupedMatmulSpec(
                task.k,
                task.n,
                2,
                f.group,
                isinstance(f.reads, Int8),
                epilogue=task.epilogue,
                halves=True,
            )
            for f in known
            if isinstance(f, Halves) and f.supports(task.k, task.n)
        )
        + tuple(
            GroupedMatmulSpec(
                task.k,
                task.n,
                f.bits,
                GROUP,
                isinstance(f.reads, Int8),
                epilogue=task.epilogue,
                slices=f.slices,
            )
            for f in sliced
        )
    )


def _read(f: Integers) -> bool:
    """Whether this family reads a format."""
    rows = isinstance(f.reads, Rounded) or (isinstance(f.reads, Int8) and f.reads.block == f.group)
    return f.bits in BITS and f.group > 0 and f.group % PIECE == 0 and rows


def name(spec: GroupedMatmulSpec) -> str:
    """Name of the weight format."""
    return spec.format.name


def layout(spec: GroupedMatmulSpec) -> Layout:
    """Of packed B, whatever A is read as."""
    return Layout(f"grouped {spec.format.stored.name}", spec.panel.matrix_bytes)


def strips(spec: GroupedMatmulSpec) -> int:
    """Panels follow each other, but for planes of slices."""
    return 0 if spec.slices else spec.rows_per_unit

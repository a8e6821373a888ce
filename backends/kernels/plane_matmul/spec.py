"""Spec of the matmul with weights in bit planes, and its division into units."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from tilewright.backends.kernels.family import Layout
from tilewright.backends.kernels.tasks import MatmulTask
from tilewright.backends.llvm import bf16
from tilewright.backends.llvm.epilogue import IDENTITY, Epilogue
from tilewright.backends.llvm.plane_codes import BLOCK, PlanePanel
from tilewright.backends.llvm.plane_dots import MOST_SPAN, row_bytes
from tilewright.backends.llvm.widened_product import HEAD_BYTES, Shape
from tilewright.backends.target import Target
from tilewright.compiler.formats import formats
from tilewright.compiler.formats.activations import Int8
from tilewright.compiler.formats.format import WeightFormat
from tilewright.compiler.formats.integers import Integers
from tilewright.compiler.formats.planes import Planes

_TABLES = 1 << 20
"""Bytes of the tables of few rows at most: they stay in L2."""

_FEW = {1: 16, 2: 12, 3: 8, 4: 8}
"""Rows by number of planes that are looked up faster than B is widened to bf16."""


@dataclass(frozen=True)
class PlaneMatmulSpec:
    """C[M, N] f32 = epilogue(A[M, K] f32 x B[K, N]), B in bit planes of ``format``.

    Args: A, packed B, the epilogue's extras, then C.
    Dims: p0 = M, p1 = row stride of A, p2 = row stride of C (elements), then one row stride for
    each ``col`` and ``full`` extra in order. Columns of A and C are contiguous.

    ``format``: binary coding, or integers whose groups share a scale of A too. ``all_rows``: all
    rows are looked up, else only few.
    """

    k: int
    n: int
    format: Planes | Integers
    epilogue: Epilogue = IDENTITY
    all_rows: bool = False

    def __post_init__(self) -> None:
        if not reads(self.format):
            raise ValueError(f"format {self.format.name} is not read in bit planes")

    @property
    def panel(self) -> PlanePanel:
        """The packed bytes of one panel."""
        kind = "even"
        if isinstance(self.format, Planes):
            kind = "shift" if self.format.shift else "own"
        return PlanePanel(self.k, self.format.bits, self.format.group, kind)

    @property
    def shape(self) -> Shape:
        return Shape(self.k, self.n)

    @property
    def few(self) -> int:
        """Most rows that are looked up together; more multiply a widened panel."""
        return max(1, min(_FEW[self.format.bits], _TABLES // max(row_bytes(self.panel), 1)))

    def looks_up(self, rows: int) -> bool:
        """Whether so many rows are looked up."""
        return self.all_rows or rows <= self.few


def reads(of: WeightFormat) -> bool:
    """Whether this family reads a format."""
    if isinstance(of, Planes):
        return 1 <= of.bits <= 4 and of.group % BLOCK == 0 and of.group <= MOST_SPAN
    if not isinstance(of, Integers) or not isinstance(of.reads, Int8):
        return False
    groups = 0 < of.group <= MOST_SPAN and of.group % BLOCK == 0 and of.reads.block == of.group
    return of.bits <= 4 and groups and not of.symmetric


def units(spec: PlaneMatmulSpec) -> str:
    """Number of work units, a formula over the dims."""
    if spec.all_rows:
        return f"ceildiv(p0, {spec.few}) * {spec.shape.across}"
    return spec.shape.units()


def scratch_bytes(spec: PlaneMatmulSpec) -> str:
    """Bytes of scratch a thread needs, a formula over the dims."""
    if spec.all_rows:
        return f"{HEAD_BYTES} + min(p0, {spec.few}) * {row_bytes(spec.panel)}"
    return spec.shape.scratch_bytes(spec.few, row_bytes(spec.panel))


def candidates(task: Any, _target: Target) -> tuple[PlaneMatmulSpec, ...]:
    """One spec for each format of binary coding, and of integers with the rows of A by group."""
    if not isinstance(task, MatmulTask):
        return ()
    return tuple(
        PlaneMatmulSpec(task.k, task.n, f, task.epilogue)
        for f in formats().values()
        if isinstance(f, Planes | Integers) and reads(f) and f.supports(task.k, task.n)
    )


def variants(spec: PlaneMatmulSpec, target: Target) -> tuple[PlaneMatmulSpec, ...]:
    """All rows looked up too, where wide vectors multiply no bf16 and planes are few."""
    if bf16.has_dots(target) or spec.format.bits > 2:
        return (spec,)
    return (spec, replace(spec, all_rows=True))


def name(spec: PlaneMatmulSpec) -> str:
    """Name of the weight format."""
    return spec.format.name


def layout(spec: PlaneMatmulSpec) -> Layout:
    """Of packed B."""
    panels = spec.shape.panels
    return Layout(f"planes {spec.format.stored.name}", panels * spec.panel.bytes)

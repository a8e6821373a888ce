"""Spec of a lookup, and where a row of each kind of table lies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tilewright.backends.kernels.family import Layout
from tilewright.backends.kernels.row_lookup import panels
from tilewright.backends.llvm.microkernel import PANEL
from tilewright.backends.target import Target
from tilewright.compiler.formats import named

ROWS = 8
"""Rows of a work unit."""

GROUP = 64
"""Elements of a row of w4-g64 that share a scale and a zero."""

KINDS = ("f32", "bf16", "w8-sym", "w4-g64")
"""Rows one after the other."""

PANELS = "f32 panels"
"""As f32_matmul packs its constant."""

TIED = "tied "
"""Before the name of a format: as the product with the same matrix has it (panels.py)."""

LAYOUTS = {PANELS: f"f32 panels of {PANEL} columns", **{kind: f"{kind} rows" for kind in KINDS}}


@dataclass(frozen=True)
class LookupTask:
    """Y[M, width] f32 = rows of a constant table f32 [rows, width] by indices[M].

    Args: indices of the type ``index`` (i64 or i32), contiguous; the packed table; Y, contiguous.
    Dims: p0 = M. Weights for ``pack``: the transposed table, f32 [width, rows]. tied: whether the
    table is multiplied as well, with the same arrangement of its elements.
    """

    rows: int
    width: int
    index: str = "i64"
    tied: bool = False


@dataclass(frozen=True)
class RowLookupSpec:
    """A lookup in a table that is stored as ``kind`` (KINDS, PANELS, or TIED and a format); args
    and dims as of the task."""

    rows: int
    width: int
    index: str = "i64"
    kind: str = "f32"

    @property
    def groups(self) -> int:
        """Groups of a row of w4-g64."""
        return -(-self.width // GROUP)

    @property
    def row_bytes(self) -> int:
        """Bytes of a row; of a row's part of its panel."""
        if self.kind == "bf16":
            return 2 * self.width
        if self.kind == "w8-sym":
            return 4 + -(-self.width // 4) * 4
        if self.kind == "w4-g64":
            return -(-(3 * self.groups + sum(half(g) for g in self.sizes)) // 2) * 2
        return 4 * self.width

    @property
    def sizes(self) -> tuple[int, ...]:
        """Elements of each group of a row."""
        return tuple(min(GROUP, self.width - g * GROUP) for g in range(self.groups))

    @property
    def tied(self) -> str:
        """The format whose panels are read, empty for rows of its own."""
        return self.kind.removeprefix(TIED) if self.kind.startswith(TIED) else ""

    @property
    def packed_bytes(self) -> int:
        if self.tied:
            return panels.product(self.tied, self.width, self.rows).bytes
        if self.kind == PANELS:
            return 4 * self.width * PANEL * -(-self.rows // PANEL)
        return self.rows * self.row_bytes


def half(size: int) -> int:
    """Bytes of a group of ``size`` 4-bit codes; the first half of them are the low nibbles."""
    return -(-size // 2)


def units(spec: RowLookupSpec) -> str:
    """Number of work units, a formula over the dims."""
    return f"ceildiv(p0, {ROWS})"


def scratch_bytes(spec: RowLookupSpec) -> str:
    """A lookup needs none."""
    return "0"


def accuracy(spec: RowLookupSpec) -> float:
    """A table rounded to bf16 is off by at most 2^-9 of each element."""
    return 1e-2 if spec.kind == "bf16" else 0.0


def format_of(spec: RowLookupSpec) -> str:
    """The weight format that the codes are of."""
    return spec.tied or (spec.kind if spec.kind.startswith("w") else "")


def candidates(task: Any, _target: Target) -> tuple[RowLookupSpec, ...]:
    """One spec for each way to store the table."""
    if not isinstance(task, LookupTask):
        return ()
    kinds: tuple[str, ...] = KINDS
    if task.tied:
        could = (f for f in panels.readable() if named(f).supports(task.width, task.rows))
        kinds = (*KINDS, PANELS, *(TIED + f for f in could))
    return tuple(RowLookupSpec(task.rows, task.width, task.index, kind) for kind in kinds)


def layout(spec: RowLookupSpec) -> Layout:
    """Of the packed table."""
    if spec.tied:
        product = panels.product(spec.tied, spec.width, spec.rows)
        assert product.family.layout is not None
        return product.family.layout(product.spec)
    return Layout(LAYOUTS[spec.kind], spec.packed_bytes)

"""Spec of the matmul with weights on lattices, and its division into units."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tilewright.backends.kernels.family import Layout
from tilewright.backends.kernels.grouped_matmul.spec import GroupedMatmulSpec, head_bytes
from tilewright.backends.kernels.tasks import MatmulTask
from tilewright.backends.llvm.amx import ROWS
from tilewright.backends.llvm.bf16_block import row_tile_bytes
from tilewright.backends.llvm.epilogue import IDENTITY, Epilogue
from tilewright.backends.llvm.grouped_codes import Panel
from tilewright.backends.target import Target
from tilewright.compiler.formats import formats
from tilewright.compiler.formats.lattice import GROUP, SIZE, Lattice

TABLE_BYTES = 4 * 2 * SIZE * SIZE
"""Of the basis of a group."""


@dataclass(frozen=True)
class LatticeMatmulSpec:
    """C[M, N] f32 = epilogue(A[M, K] f32 x B[K, N]), B in a format of compiler.formats.lattice.

    Args: A, packed B, the epilogue's extras, then C.
    Dims: p0 = M, p1 = row stride of A, p2 = row stride of C (elements), then one row stride for
    each ``col`` and ``full`` extra in order. Columns of A and C are contiguous. K is a multiple
    of 16.
    """

    k: int
    n: int
    bits: int
    epilogue: Epilogue = IDENTITY

    def __post_init__(self) -> None:
        if not self.format.supports(self.k, self.n):
            raise ValueError(f"a matrix {self.k} by {self.n} has no lattices of {GROUP} rows")

    @property
    def format(self) -> Lattice:
        """The weight format."""
        return Lattice(self.bits)

    @property
    def inner(self) -> GroupedMatmulSpec:
        """The product with the codes as integers."""
        return GroupedMatmulSpec(self.k, self.n, self.bits, GROUP, symmetric=True)

    @property
    def panel(self) -> Panel:
        """The packed codes and scales of one panel."""
        return Panel(self.k, self.bits, GROUP, True, centred=True)

    @property
    def tables_at(self) -> int:
        """Where the bases begin."""
        return self.inner.panels * self.panel.bytes

    @property
    def packed_bytes(self) -> int:
        return self.tables_at + self.panel.groups * TABLE_BYTES


def units(spec: LatticeMatmulSpec) -> str:
    """Number of work units, a formula over the dims."""
    inner = spec.inner
    across = -(-inner.panels // inner.panels_per_unit)
    return f"ceildiv(p0, {inner.rows_per_unit}) * {across}"


def rows_at(spec: LatticeMatmulSpec) -> int:
    """Where multiplied rows of A lie in scratch: behind the widened panels."""
    return head_bytes(spec.inner) + spec.inner.wide_bytes


def scratch_bytes(spec: LatticeMatmulSpec) -> str:
    """Bytes of scratch a thread needs, a formula over the dims."""
    rows = f"min(p0, {spec.inner.rows_per_unit})"
    tiles = f"ceildiv({rows}, {ROWS}) * {row_tile_bytes(spec.k, 1)}"
    return f"{rows_at(spec)} + {tiles} + {rows} * {4 * spec.k}"


def candidates(task: Any, _target: Target) -> tuple[LatticeMatmulSpec, ...]:
    """One spec for each format of lattices."""
    if not isinstance(task, MatmulTask):
        return ()
    return tuple(
        LatticeMatmulSpec(task.k, task.n, f.bits, task.epilogue)
        for f in formats().values()
        if isinstance(f, Lattice) and f.supports(task.k, task.n)
    )


def name(spec: LatticeMatmulSpec) -> str:
    """Name of the weight format."""
    return spec.format.name


def layout(spec: LatticeMatmulSpec) -> Layout:
    """Of packed B."""
    return Layout(spec.format.name, spec.packed_bytes)

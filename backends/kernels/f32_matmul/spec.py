"""Spec of the f32 matmul with constant B, and its division into units."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tilewright.backends.kernels.family import Layout
from tilewright.backends.kernels.tasks import MatmulTask
from tilewright.backends.llvm.epilogue import IDENTITY, Epilogue
from tilewright.backends.llvm.gemm import TILE_BYTES
from tilewright.backends.llvm.microkernel import PANEL
from tilewright.backends.target import Target

LAYOUT = "f32 panels of 32 columns"


@dataclass(frozen=True)
class MatmulSpec:
    """C[M, N] = epilogue(A[M, K] B[K, N]), f32.

    Args: A, packed B, the epilogue's extras, then C.
    Dims: p0 = M, p1 = row stride of A, p2 = row stride of C (elements), then one row stride for
    each ``col`` and ``full`` extra in order. Columns of A and C are contiguous.
    Leading dimensions of a contiguous A are folded into M by the caller.
    """

    k: int
    n: int
    epilogue: Epilogue = IDENTITY

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
        """At most this many rows a unit: their A block keeps to half of a 1 MiB L2."""
        return max(14, min(224, (1 << 19) // (4 * max(self.k, 1)) // 14 * 14))


def units(spec: MatmulSpec) -> str:
    """Number of work units, a formula over the dims."""
    across = -(-spec.panels // spec.panels_per_unit)
    return f"ceildiv(p0, {spec.rows_per_unit}) * {across}"


def scratch_bytes(spec: MatmulSpec) -> str:
    """Bytes of scratch a thread needs, a formula over the dims."""
    return str(TILE_BYTES)


def candidates(task: Any, _target: Target) -> tuple[MatmulSpec, ...]:
    """The spec of a matmul with constant B."""
    return (MatmulSpec(task.k, task.n, task.epilogue),) if isinstance(task, MatmulTask) else ()


def layout(spec: MatmulSpec) -> Layout:
    """Of packed B."""
    return Layout(LAYOUT, 4 * spec.panels * PANEL * spec.k)

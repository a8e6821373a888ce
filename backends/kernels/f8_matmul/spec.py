"""Spec of the matmul with weights of 8-bit floats, and its division into units."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tilewright.backends.kernels.family import Layout
from tilewright.backends.kernels.tasks import MatmulTask
from tilewright.backends.llvm import bf16_gemm, gemm
from tilewright.backends.llvm.amx import ROWS
from tilewright.backends.llvm.bf16_block import row_tile_bytes, steps
from tilewright.backends.llvm.epilogue import IDENTITY, Epilogue, Extra, Step
from tilewright.backends.llvm.microkernel import PANEL
from tilewright.backends.llvm.widened import panel_bytes
from tilewright.backends.target import Target
from tilewright.compiler.formats.activations import Exact, Rounded
from tilewright.compiler.formats.float8 import GREATEST, Float8

MOST_ROWS = 256
"""Most rows of a unit; every block of rows brings B to bf16 or f32 again."""

_PANELS_BYTES = 1 << 19
"""What the panels of a unit take of L2 once they are bf16."""


@dataclass(frozen=True)
class F8MatmulTask(MatmulTask):
    """A MatmulTask whose B is what a model stores as 8-bit floats of ``kind`` with a scale a
    column. Weights for ``pack``: an `Encoded` of `Float8`."""

    kind: str = "e4m3"


@dataclass(frozen=True)
class F8MatmulSpec:
    """C[M, N] f32 = epilogue(A[M, K] f32 x B[K, N]), B in a format of compiler.formats.float8.

    Args: A, packed B, the epilogue's extras, then C.
    Dims: p0 = M, p1 = row stride of A, p2 = row stride of C (elements), then one row stride for
    each ``col`` and ``full`` extra in order. Columns of A and C are contiguous.
    ``exact``: A is read as it is, else rounded to bf16 where the target multiplies bf16.
    """

    k: int
    n: int
    kind: str
    exact: bool = False
    epilogue: Epilogue = IDENTITY

    @property
    def format(self) -> Float8:
        """The weight format."""
        return Float8(self.kind, Exact() if self.exact else Rounded())

    @property
    def panels(self) -> int:
        return -(-self.n // PANEL)

    @property
    def panel_bytes(self) -> int:
        """Of the codes of a panel."""
        return steps(self.k) * 32 * PANEL

    @property
    def scales_at(self) -> int:
        """Where the scales begin."""
        return self.panels * self.panel_bytes

    @property
    def packed_bytes(self) -> int:
        return self.scales_at + 4 * PANEL * self.panels

    @property
    def panels_per_unit(self) -> int:
        if self.panels < 8:
            return 1
        wanted = 2 if self.panels < 32 else 4 * -(-self.panels // 64)
        return max(1, min(wanted, _PANELS_BYTES // max(panel_bytes(self.k, True), 1)))

    @property
    def rows_per_unit(self) -> int:
        """At most this many rows, in pairs of tiles: their block keeps to 1.25 MiB of L2."""
        bytes_a = 2 * max(row_tile_bytes(self.k, 1), 1)
        return 2 * ROWS * max(1, min(MOST_ROWS // (2 * ROWS), (5 << 18) // bytes_a))

    @property
    def scaled(self) -> Epilogue:
        """The epilogue after the scales, which are its last extra."""
        given = self.epilogue
        last = len(given.extras) + 1

        def moved(value: int) -> int:
            """The scaled result is 0 of before; the values behind the extras come two later."""
            if value == 0:
                return last + 1
            return value if value < last else value + 2

        kept = (Step(s.op, tuple(map(moved, s.args)), s.immediates) for s in given.steps)
        return Epilogue(
            (*given.extras, Extra("row")), (Step("mul", (0, last)), *kept), moved(given.result)
        )


def units(spec: F8MatmulSpec) -> str:
    """Number of work units, a formula over the dims."""
    across = -(-spec.panels // spec.panels_per_unit)
    return f"ceildiv(p0, {spec.rows_per_unit}) * {across}"


def head_bytes(_spec: F8MatmulSpec) -> int:
    """Scratch before widened panels and rows of A: tiles of sums."""
    return -(-max(bf16_gemm.SCRATCH_BYTES, gemm.TILE_BYTES) // 64) * 64


def scratch_bytes(spec: F8MatmulSpec) -> str:
    """Bytes of scratch a thread needs, a formula over the dims."""
    wide = max(spec.panels_per_unit, 2) * panel_bytes(spec.k, True)
    tiles = f"ceildiv(min(p0, {spec.rows_per_unit}), {ROWS})"
    return f"{head_bytes(spec) + wide} + {tiles} * {row_tile_bytes(spec.k, 1)}"


def candidates(task: Any, _target: Target) -> tuple[F8MatmulSpec, ...]:
    """One spec for each kind."""
    if not isinstance(task, MatmulTask) or isinstance(task, F8MatmulTask):
        return ()
    return tuple(F8MatmulSpec(task.k, task.n, kind, False, task.epilogue) for kind in GREATEST)


def name(spec: F8MatmulSpec) -> str:
    """Name of the weight format."""
    return spec.format.name


def layout(spec: F8MatmulSpec) -> Layout:
    """Of packed B, whatever A is read as."""
    return Layout(f"f8 {spec.kind}", spec.packed_bytes)

"""Spec of the 8-bit matmul with constant B, and its division into units."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from tilewright.backends.kernels import tasks
from tilewright.backends.kernels.family import Layout
from tilewright.backends.llvm.amx import ROWS
from tilewright.backends.llvm.epilogue import IDENTITY, Epilogue
from tilewright.backends.llvm.int8 import STEP
from tilewright.backends.llvm.int8_block import MOST_ROW_BYTES, steps
from tilewright.backends.llvm.int8_gemm import ELEMENTS, SCRATCH_BYTES, panel_bytes
from tilewright.backends.llvm.microkernel import PANEL
from tilewright.backends.target import Target

INPUTS = ("u8", "s8", "f32_tensor")


@dataclass(frozen=True)
class IntegerMatmulTask:
    """C[M, N] = epilogue(A[M, K] x B[K, N]), 8-bit operands, i32 sums, constant B.

    Fields, args and dims as `Int8MatmulSpec` says; ``a`` may be quantized by the kernel. Weights
    for ``pack``: B as it is, [K, N].
    """

    k: int
    n: int
    a: str
    b: str
    out: str = "i32"
    epilogue: Epilogue = IDENTITY

    def operands(self, dims: Sequence[int]) -> tasks.Bytes:
        """A, packed B, scale and zero point of an A that is quantized with them, extras, C."""
        m, lda, ldc, *strides = dims
        others = tasks.extras(self.epilogue, m, self.n, strides)
        small = ("u8", "s8")
        a = tasks.span((m, self.k), (lda, 1), 1 if self.a in small else 4)
        c = tasks.span((m, self.n), (ldc, 1), 1 if self.out in small else 4)
        given = (4, 1) if self.a == "f32_tensor" else ()
        return (a, None, *given, *others, c)


@dataclass(frozen=True)
class Int8MatmulSpec:
    """C[M, N] = epilogue(A[M, K] x B[K, N]), 8-bit operands, sums in i32 modulo 2**32.

    Args: A, packed B, for ``f32_tensor`` scale (f32) and zero point (u8) of A, one element each,
    then the epilogue's extras, then C.
    Dims: p0 = M, p1 = row stride of A, p2 = row stride of C (elements), then one row stride for
    each ``col`` and ``full`` extra in order. Columns of A and C are contiguous.

    ``a``: the type of A, or ``f32_tensor``: f32 that the kernel makes u8, a block of rows at a
    time, as ONNX's QuantizeLinear does, saturate(round(x / scale) + zero).
    ``b``: ``s8`` or ``u8``. ``zero_points``: B is what was packed less a zero point for each
    column; always so for u8, which is held as s8 with zero points of its own.
    ``out``: ``i32``, ``f32``, ``u8`` or ``s8``: the type of C, which is what the epilogue gives
    (``convert`` makes f32 of the sums), or for the last two its f32 cut off at their limits.
    ``rows``, ``panels``: rows and panels of 32 columns of a unit at most; 0: see below.
    """

    k: int
    n: int
    a: str = "u8"
    b: str = "s8"
    zero_points: bool = False
    out: str = "i32"
    epilogue: Epilogue = IDENTITY
    rows: int = 0
    panels: int = 0

    def __post_init__(self) -> None:
        if self.a not in INPUTS or self.b not in ("s8", "u8") or self.out not in ELEMENTS:
            raise ValueError(f"no 8-bit product of {self.a} and {self.b} as {self.out}")
        if self.b == "u8" and not self.zero_points:
            raise ValueError("u8 weights are held as s8 with zero points")
        if self.rows % (2 * ROWS):
            raise ValueError(f"units of {self.rows} rows: expected a multiple of {2 * ROWS}")

    @property
    def signed(self) -> bool:
        """A is held as a signed type where the target leaves the choice."""
        return self.a == "s8"

    @property
    def given(self) -> int:
        """Args before the epilogue's extras."""
        return 4 if self.a == "f32_tensor" else 2

    @property
    def panel_count(self) -> int:
        return -(-self.n // PANEL)

    @property
    def packed_bytes(self) -> int:
        return self.panel_count * panel_bytes(self.k, self.zero_points)

    @property
    def panels_per_unit(self) -> int:
        """Few enough that one block of rows still gives two threads even work; in fours where
        there are many, since a matrix-vector product streams four panels at once."""
        if self.panels:
            return self.panels
        if self.panel_count < 8:
            return 1
        return 2 if self.panel_count < 32 else 4 * -(-self.panel_count // 64)

    @property
    def rows_per_unit(self) -> int:
        """At most this many rows a unit, in pairs of tiles: their block keeps to 1.25 of the
        2 MiB of L2 that machines with AMX have, since every block of rows reads all of B."""
        if self.rows:
            return self.rows
        pair = 2 * ROWS * STEP * max(steps(self.k), 1)
        return 2 * ROWS * max(1, min(16, (5 << 18) // pair))


def units(spec: Int8MatmulSpec) -> str:
    """Number of work units, a formula over the dims."""
    across = -(-spec.panel_count // spec.panels_per_unit)
    return f"ceildiv(p0, {spec.rows_per_unit}) * {across}"


def block_bytes(spec: Int8MatmulSpec) -> str:
    """Bytes of a block of A on any target, a formula over the dims."""
    tiles = f"ceildiv(min(p0, {spec.rows_per_unit}), {ROWS})"
    return f"{tiles} * {steps(spec.k) * ROWS * MOST_ROW_BYTES}"


def scratch_bytes(spec: Int8MatmulSpec) -> str:
    """Bytes of scratch a thread needs, a formula over the dims: blocks of C, sums of rows, a block
    of A."""
    return f"{SCRATCH_BYTES} + {4 * spec.rows_per_unit} + {block_bytes(spec)}"


def variants(spec: Int8MatmulSpec, target: Target) -> tuple[Int8MatmulSpec, ...]:
    """``spec`` and other divisions of the same work; all compute the same bits."""
    if target.gpu:
        return (spec,)
    count = spec.panel_count
    others = {min(count, p) for p in (1, 4, 16)} - {spec.panels_per_unit}
    return (spec, *(replace(spec, panels=p) for p in sorted(others)))


def candidates(task: Any, _target: Target) -> tuple[Int8MatmulSpec, ...]:
    """The one way."""
    if not isinstance(task, IntegerMatmulTask):
        return ()
    return (
        Int8MatmulSpec(task.k, task.n, task.a, task.b, task.b == "u8", task.out, task.epilogue),
    )


def layout(spec: Int8MatmulSpec) -> Layout:
    """Of packed B."""
    points = " with zero points" if spec.zero_points else ""
    return Layout(f"{spec.b} panels of 32 columns{points}", spec.packed_bytes)

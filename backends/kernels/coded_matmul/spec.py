"""Spec of the matmul with B in codes that a model brings, and its division into units."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tilewright.backends.kernels.family import Layout
from tilewright.backends.kernels.tasks import MatmulTask
from tilewright.backends.llvm import f16_gemm, gemm
from tilewright.backends.llvm.epilogue import IDENTITY, Epilogue
from tilewright.backends.llvm.microkernel import PANEL
from tilewright.backends.target import Target
from tilewright.compiler.formats.blocks import Blocks
from tilewright.compiler.formats.integers import Integers

FEW = 4
"""Up to so many rows the codes are multiplied as they are; for more, a panel is decoded first."""

MOST_ROWS = 224
"""Most rows of a unit, which decodes its panels again."""

W4 = Blocks(4, 32)

_SUMS = 1 << 17
"""f32 of A in a unit: half a MiB of L2."""


@dataclass(frozen=True)
class CodedMatmulTask(MatmulTask):
    """A MatmulTask whose B is known as codes; what computes that one computes this one too.

    Weights for ``pack``: the `Encoded` of ``format``. ``rounding``: formats of the same codes that
    may be read too, in which rows of A are rounded.
    """

    format: Blocks = W4
    rounding: tuple[Integers, ...] = ()


@dataclass(frozen=True)
class CodedMatmulSpec:
    """C[M, N] f32 = epilogue(A[M, K] f32 x B[K, N]), B in codes of ``format``.

    Args: A, packed B, the epilogue's extras, then C.
    Dims: p0 = M, p1 = row stride of A, p2 = row stride of C (elements), then one row stride for
    each ``col`` and ``full`` extra in order. Columns of A and C are contiguous.
    """

    k: int
    n: int
    format: Blocks
    epilogue: Epilogue = IDENTITY

    def __post_init__(self) -> None:
        if self.format.group % self.word:
            raise ValueError(f"groups of {self.format.group}: expected a multiple of {self.word}")

    @property
    def word(self) -> int:
        """k of one 32-bit word of codes."""
        return 32 // self.format.bits

    @property
    def group(self) -> int:
        """k that share a scale, whole words."""
        return self.format.group or -(-max(self.k, 1) // self.word) * self.word

    @property
    def groups(self) -> int:
        return -(-self.k // self.group)

    @property
    def words(self) -> int:
        """Words of a column, those of the last group as far as K reaches."""
        return -(-self.k // self.word)

    @property
    def code_bytes(self) -> int:
        """Codes of a panel."""
        return 4 * PANEL * self.words

    @property
    def scale_bytes(self) -> int:
        """Of one scale."""
        return 2 if self.format.half else 4

    @property
    def zero_bytes(self) -> int:
        """Of one zero point."""
        return {"": 0, "u8": 1, "f32": 4}[self.format.zeros]

    @property
    def panel_bytes(self) -> int:
        """Codes, scales, zero points; whole lines of 64 bytes."""
        return self.code_bytes + PANEL * self.groups * self.scale_bytes + self.zeros_room

    @property
    def zeros_room(self) -> int:
        """Zero points, so many that the next panel begins at a multiple of 64 bytes."""
        ends = self.groups * (self.scale_bytes + self.zero_bytes) * PANEL
        return -(-ends // 64) * 64 - self.groups * self.scale_bytes * PANEL

    @property
    def panels(self) -> int:
        return -(-self.n // PANEL)

    @property
    def panels_per_unit(self) -> int:
        """Few enough that several threads have work."""
        return 1 if self.panels < 16 else 2 if self.panels < 64 else 4 * -(-self.panels // 256)

    @property
    def rows_per_unit(self) -> int:
        """Rows of A that stay in L2 for all panels of a unit."""
        return max(56, min(MOST_ROWS, _SUMS // max(self.k, 1) // 14 * 14))

    @property
    def wide_bytes(self) -> int:
        """Scratch of a decoded panel."""
        return 4 * PANEL * self.k


def units(spec: CodedMatmulSpec) -> str:
    """Number of work units, a formula over the dims."""
    across = -(-spec.panels // spec.panels_per_unit)
    return f"ceildiv(p0, {spec.rows_per_unit}) * {across}"


def scratch_bytes(spec: CodedMatmulSpec) -> str:
    """Bytes of scratch a thread needs, a formula over the dims: a tile and a decoded panel."""
    return f"{gemm.TILE_BYTES} + min(max(p0, {FEW}) - {FEW}, 1) * {spec.wide_bytes}"


def supports(target: Target) -> bool:
    """Targets that convert f16 in registers."""
    return f16_gemm.widens(target)


def candidates(task: Any, _target: Target) -> tuple[CodedMatmulSpec, ...]:
    """The one spec."""
    if not isinstance(task, CodedMatmulTask) or task.format.group % 16:
        return ()
    return (CodedMatmulSpec(task.k, task.n, task.format, task.epilogue),)


def layout(spec: CodedMatmulSpec) -> Layout:
    """Of packed B."""
    return Layout(f"codes {spec.format.name}", spec.panels * spec.panel_bytes)

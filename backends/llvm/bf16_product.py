"""A product of bf16 blocks at code generation time: its operands, and how they are walked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from llvmlite import ir

from tilewright.backends.llvm import bf16, formats
from tilewright.backends.llvm.bf16_block import steps
from tilewright.backends.llvm.bf16_microkernel import PLANE_BYTES
from tilewright.backends.llvm.builder import Int
from tilewright.backends.llvm.epilogue import Epilogue, Operand

STREAM_BYTES = 1 << 19
"""L2 for panels that are asked for, and as many that are in use."""

SLICED_FROM = 1024
"""From this K on a panel is multiplied in slices, which leave room in L1 for rows that pass."""

SLICE = 12
"""Most steps of a slice: a panel's part takes 24 KiB."""


def panel_bytes(k: int, planes: int) -> int:
    """Bytes of one packed panel."""
    return steps(k) * planes * PLANE_BYTES


@dataclass(frozen=True)
class Product:
    """A block product at code generation time.

    ``a``: block of bf16_block; ``b``: panel 0; ``c``: element (0, 0) in the format ``stored``, row
    stride ``ldc``. ``rows_a``: element (0, 0) of A in bf16 and its row stride, where tiles are
    loaded from there; the block then has only the rows from `block_from` on.
    ``n``: columns of C. ``products``: 1, 3 or 6 (bf16.ORDER). ``tile``: SCRATCH_BYTES of scratch.
    ``row``, ``column``: global index of element (0, 0), for the epilogue's operands.
    """

    a: ir.Value
    b: ir.Value
    k: int
    products: int
    c: ir.Value
    ldc: Int
    n: int
    tile: ir.Value
    epilogue: Epilogue
    operands: Sequence[Operand]
    row: Int = 0
    column: Int = 0
    stored: str = formats.F32_FORMAT
    rows_a: tuple[ir.Value, Int] | None = None

    @property
    def finished(self) -> bool:
        """Whether sums go to C through an epilogue or a conversion."""
        return not self.epilogue.identity or self.stored != formats.F32_FORMAT

    @property
    def streams(self) -> int:
        """Panels that are asked for at once: four of them are read 10 to 14 % faster than one."""
        return max(1, min(4, STREAM_BYTES // (2 * max(self.panel_bytes, 1))))

    @property
    def planes(self) -> int:
        return bf16.PLANES[self.products]

    @property
    def steps(self) -> int:
        return steps(self.k)

    @property
    def slice(self) -> int:
        """Steps of a slice, all of them where K is not sliced."""
        if self.planes > 1 or self.k < SLICED_FROM:
            return max(self.steps, 1)
        return -(-self.steps // -(-self.steps // SLICE))

    @property
    def panel_bytes(self) -> int:
        return panel_bytes(self.k, self.planes)

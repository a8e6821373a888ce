"""A product of 8-bit rows and columns with a scale each, at code generation time.

C = epilogue(row scale * column scale * (A B) + tail), A a block of int8_block, packed B:
[panel] of [K step of 64][16 quads of k][32 columns][4] s8, then i32 [32] column sums, f32 [32]
column scales, and, with a tail, [16 pairs of k][32 columns][2] bf16.
The tail is a product in bf16 with f32 sums, of one step of 32 k.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from llvmlite import ir

from tilewright.backends.llvm import epilogue as epilogues
from tilewright.backends.llvm import formats, rounding
from tilewright.backends.llvm.amx import ROWS
from tilewright.backends.llvm.bf16_microkernel import PLANE_BYTES
from tilewright.backends.llvm.builder import F32, I8, I32, Code, Int
from tilewright.backends.llvm.epilogue import Epilogue, Operand
from tilewright.backends.llvm.int8_block import steps
from tilewright.backends.llvm.int8_microkernel import STEP_BYTES
from tilewright.backends.llvm.microkernel import PANEL

STREAM_BYTES = 1 << 19
"""L2 for panels that are asked for, and as many that are in use."""

JOB_BYTES = 128
BLOCK_BYTES = 2 * ROWS * PANEL * 4
SCRATCH_BYTES = JOB_BYTES + 4 * BLOCK_BYTES + 4 * PANEL * 4
"""Scratch: a job, two blocks of sums and two of tails, what the sums of four panels begin with."""


def panel_bytes(k: int, tail: bool) -> int:
    """Bytes of one packed panel."""
    return steps(k) * STEP_BYTES + 2 * 4 * PANEL + (PLANE_BYTES if tail else 0)


@dataclass(frozen=True)
class Finish:
    """How C is finished: its columns, epilogue and format, and whether sums have a tail."""

    n: int
    epilogue: Epilogue
    stored: str
    tail: bool


@dataclass(frozen=True)
class Product:
    """A block product.

    ``a``: block of int8_block; ``tail``: its rows of 32 bf16, if there is a tail; ``b``: panel 0;
    ``c``: element (0, 0) in ``finish.stored``, row stride ``ldc``. ``scales``: of the rows.
    ``scratch``: SCRATCH_BYTES. ``row``: global index of row 0, for the epilogue's operands.
    """

    a: ir.Value
    tail: ir.Value | None
    b: ir.Value
    k: int
    finish: Finish
    c: ir.Value
    ldc: Int
    scales: ir.Value
    scratch: ir.Value
    operands: Sequence[Operand]
    row: Int = 0

    @property
    def steps(self) -> int:
        return steps(self.k)

    @property
    def panel_bytes(self) -> int:
        return panel_bytes(self.k, self.finish.tail)

    @property
    def streams(self) -> int:
        """Panels that are asked for at once: see bf16_product."""
        return max(1, min(4, STREAM_BYTES // (2 * self.panel_bytes)))

    def panel(self, code: Code, number: Int) -> ir.Value:
        """Address of a panel."""
        return code.at(self.b, code.mul(number, self.panel_bytes), I8)

    def sums(self, code: Code, number: Int = 0) -> ir.Value:
        """A block of sums in scratch."""
        return code.at(self.scratch, code.add(JOB_BYTES, code.mul(number, BLOCK_BYTES)), I8)

    def tails(self, code: Code, number: Int = 0) -> ir.Value:
        """A block of tails in scratch."""
        return self.sums(code, code.add(number, 2))

    def begins(self, code: Code) -> ir.Value:
        """i32 [4][32] in scratch."""
        return self.sums(code, 4)


@dataclass(frozen=True)
class Lines:
    """A block of sums [rows][32] on its way to C.

    ``sums`` i32, ``tails`` f32, ``out``: element (0, 0) of the block in C. ``scales``: of its rows.
    ``columns``: f32 [32] scales of its columns. ``row``, ``column``: its place, for the epilogue's
    operands. ``exist``: columns that C has from here on.
    """

    finish: Finish
    sums: ir.Value
    tails: ir.Value | None
    out: ir.Value
    scales: ir.Value
    columns: ir.Value
    row: Int
    column: Int
    exist: Int
    ldc: Int
    operands: Sequence[Operand]

    def emit(self, code: Code, index: Int) -> None:
        """One line through the epilogue."""
        lanes = code.target.lanes_f32
        if self.finish.n % PANEL == 0:
            self._vectors(code, index, masked=False)
        elif lanes == 16:
            self._vectors(code, index, masked=True)
        else:
            with code.either(code.cmp(">=", self.exist, PANEL)) as (full, edge):
                with full:
                    self._vectors(code, index, masked=False)
                with edge:
                    self._vectors(code, index, masked=True)

    def _vectors(self, code: Code, index: Int, masked: bool) -> None:
        lanes = code.target.lanes_f32
        element = formats.ELEMENT[self.finish.stored]
        target = code.at(self.out, code.mul(index, self.ldc), element)
        factor = code.splat(code.load(code.at(self.scales, index)), lanes)
        for v in range(0, PANEL, lanes):
            mask = code.first_lanes(code.sub(self.exist, v), lanes) if masked else None
            place = code.add(code.mul(index, PANEL), v)
            whole = code.vload(code.at(self.sums, place, I32), lanes, element=I32)
            value = code.b.fmul(code.b.sitofp(whole, code.vector(lanes)), factor)
            scale = code.vload(code.at(self.columns, v), lanes)
            if self.tails is None:
                value = code.b.fmul(value, scale)
            else:
                value = code.fma(value, scale, code.vload(code.at(self.tails, place, F32), lanes))
            row, column = code.add(self.row, index), code.add(self.column, v)
            value = epilogues.emit(
                code, self.finish.epilogue, value, self.operands, row, column, mask
            )
            rounding.store(code, value, code.at(target, v, element), mask, self.finish.stored)

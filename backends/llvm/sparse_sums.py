"""Sums of rows by a panel of sparse weights on their way to C."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from llvmlite import ir

from tilewright.backends.llvm import epilogue as epilogues
from tilewright.backends.llvm.builder import F32, I32, Code, Int
from tilewright.backends.llvm.epilogue import Epilogue, Operand
from tilewright.backends.llvm.microkernel import PANEL


@dataclass(frozen=True)
class Scaled:
    """``columns``: f32 [32] scales of a panel; ``rows``: those of rows, from the first on, or None
    where only columns have some. ``whole``: sums are i32."""

    columns: ir.Value
    rows: ir.Value | None
    whole: bool


@dataclass(frozen=True)
class Sums:
    """``tile``: [rows][32]; ``c``: element (0, 0) of C, rows ``ldc`` apart, of ``n`` columns."""

    tile: ir.Value
    c: ir.Value
    ldc: Int
    n: int
    epilogue: Epilogue
    operands: Sequence[Operand]

    def finish(
        self, code: Code, line: Int, row: Int, panel: Int, scaled: Scaled | None = None
    ) -> None:
        """Row ``line`` of the tile, the row ``row`` of C, through the epilogue; the row's scale is
        number ``line``."""
        lanes = code.target.lanes_f32
        column = code.mul(panel, PANEL)
        out = code.at(code.at(self.c, code.mul(row, self.ldc)), column)
        for v in range(0, PANEL, lanes):
            at = code.add(column, v)
            mask = None if self.n % PANEL == 0 else code.first_lanes(code.sub(self.n, at), lanes)
            value = self._sums(code, code.add(code.mul(line, PANEL), v), scaled)
            if scaled is not None:
                if scaled.rows is not None:
                    factor = code.load(code.at(scaled.rows, line, F32))
                    value = code.b.fmul(value, code.splat(factor, lanes))
                value = code.b.fmul(value, code.vload(code.at(scaled.columns, v, F32), lanes))
            value = epilogues.emit(code, self.epilogue, value, self.operands, row, at, mask)
            code.vstore(value, code.at(out, v), mask)

    def _sums(self, code: Code, place: Int, scaled: Scaled | None) -> ir.Value:
        lanes = code.target.lanes_f32
        if scaled is None or not scaled.whole:
            return code.vload(code.at(self.tile, place), lanes)
        whole = code.vload(code.at(self.tile, place, I32), lanes, element=I32)
        return code.b.sitofp(whole, code.vector(lanes))

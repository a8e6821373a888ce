"""Rows that are normalized before they become 8-bit codes."""

from __future__ import annotations

from dataclasses import dataclass

from llvmlite import ir

from tilewright.backends.llvm import formats, normalization
from tilewright.backends.llvm.amx import ROWS
from tilewright.backends.llvm.builder import Code, Int
from tilewright.backends.llvm.int8_rows import Rows
from tilewright.backends.llvm.normalization import LANES, STATISTICS_BYTES


def room_bytes(k: int) -> int:
    """Scratch: statistics of 16 rows, and these rows."""
    return STATISTICS_BYTES + -(-4 * ROWS * k // 64) * 64


@dataclass(frozen=True)
class Normed:
    """What brings 16 rows to scratch (`int8_rows.Prepare`), where they stay in L1 or L2: their
    greatest value is known only when all of a row is. ``rule`` has its statistics in ``room``."""

    rule: normalization.Rows
    room: ir.Value

    def __call__(self, code: Code, a: Rows, count: Int) -> Rows:
        assert a.stored == formats.F32_FORMAT, "rows to normalize are f32"
        out = code.at(self.room, STATISTICS_BYTES // 4)
        whole = a.k // LANES * LANES
        with code.loop(0, count) as row:
            source, target = a.at(code, row.index), code.at(out, code.mul(row.index, a.k))
            self.rule.measure(code, source, row.index)

            def keep(column: Int, mask: ir.Value | None) -> None:
                value = code.vload(code.at(source, column), LANES, mask)
                value = self.rule.apply(code, value, row.index, column, mask)
                code.vstore(value, code.at(target, column), mask)

            with code.loop(0, whole, LANES) as column:
                keep(column.index, None)
            if whole < a.k:
                keep(whole, code.first_lanes(a.k - whole, LANES))
        return Rows(out, a.k, a.k)

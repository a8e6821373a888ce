"""Rows of codes as vectors of f32: loaded, widened in registers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from llvmlite import ir

from tilewright.backends.llvm.builder import I8, I32, Code, Int
from tilewright.compiler.formats.caches import CacheFormat


@dataclass(frozen=True)
class Codes:
    """Rows of ``size`` elements. A vector of bytes holds as many elements as lanes in int8, twice
    as many in int4: the second part of them lies half a row behind the first."""

    made: CacheFormat
    size: int

    @property
    def bytes(self) -> int:
        """Of a row."""
        return self.made.width(self.size)

    def places(self, code: Code, at: Int) -> list[Int]:
        """Where the elements of the bytes from ``at`` on are in their row, part by part."""
        return [at] if self.made.bits == 8 else [at, code.add(at, self.size // 2)]

    def chunks(self, lanes: int) -> Iterator[tuple[int, int]]:
        """(first byte, how many) of the vectors of a row."""
        for at in range(0, self.bytes, lanes):
            yield at, min(lanes, self.bytes - at)

    def load(self, code: Code, row: ir.Value, at: Int, count: int) -> list[ir.Value]:
        """``count`` bytes of a row as f32, a vector for each part; 0 in lanes beyond."""
        b, lanes = code.b, code.target.lanes_f32
        place = code.at(row, at, I8)
        wide, real = ir.VectorType(I32, lanes), code.vector(lanes)
        if count == lanes:
            taken = code.vload(place, lanes, None, I8)
        else:
            taken = ir.Constant(ir.VectorType(I8, lanes), None)
            for i in range(count):
                one = code.load(code.at(place, i, I8), I8)
                taken = b.insert_element(taken, one, ir.Constant(I32, i))
        if self.made.bits == 8:
            return [b.sitofp(b.sext(taken, wide), real)]
        both = b.zext(taken, wide)
        low = b.and_(both, code.splat(ir.Constant(I32, 15), lanes))
        high = b.lshr(both, code.splat(ir.Constant(I32, 4), lanes))
        return [b.sitofp(low, real), b.sitofp(high, real)]

"""LLVM emitter of the matmul with blocks of k apart."""

from __future__ import annotations

from dataclasses import dataclass

from llvmlite import ir

from tilewright.backends.kernels.apart_matmul.spec import PLACES, ApartMatmulSpec
from tilewright.backends.llvm import int8
from tilewright.backends.llvm.amx import ROWS, TILE_BYTES
from tilewright.backends.llvm.apart_blocks import emit_apart, emit_lines, emit_woven
from tilewright.backends.llvm.builder import F32, I8, I64, Code, Int
from tilewright.backends.llvm.frame import Frame, Matmul, Split, Unit
from tilewright.backends.llvm.int8_rows import Rows, emit_rows
from tilewright.backends.llvm.microkernel import PANEL
from tilewright.backends.llvm.narrow_blocks import NARROW, TILES
from tilewright.backends.llvm.sparse_blocks import LINE, emit_blocks, emit_turned, native
from tilewright.backends.llvm.sparse_sums import Scaled, Sums
from tilewright.backends.target import Target

_I16 = ir.IntType(16)


def supports(target: Target) -> bool:
    """x86-64 that multiplies 64 bytes at once."""
    return native(target, 4)


@dataclass(frozen=True)
class _Launch:
    """A launch at code generation time."""

    spec: ApartMatmulSpec
    x: Matmul
    scales: ir.Value

    def tile(self, code: Code) -> ir.Value:
        """Scratch of sums."""
        return code.at(self.scales, self.spec.scale_bytes, I8)

    def numbers(self, code: Code) -> ir.Value:
        """Scratch of the numbers of blocks."""
        return code.at(self.tile(code), self.spec.sum_bytes, I8)

    def woven(self, code: Code) -> ir.Value:
        """Scratch of woven rows."""
        return code.at(self.numbers(code), self.spec.number_bytes, I8)

    def rows(self, code: Code) -> ir.Value:
        """Scratch of rows."""
        return code.at(self.woven(code), TILES * self.spec.woven_bytes, I8)

    def columns(self, code: Code, panel: Int) -> ir.Value:
        """Sums and scales of the columns of a panel."""
        at = code.add(self.spec.head_bytes, code.mul(panel, self.spec.column_bytes))
        return code.at(self.x.b, at, I8)

    def strip(self, code: Code, index: Int) -> tuple[ir.Value, ir.Value, ir.Value]:
        """Places of blocks, blocks, how many."""
        at = code.at(self.x.b, code.mul(index, 2), I64)
        places = code.at(self.x.b, code.load(at, I64), I8)
        count = code.load(code.at(at, 1, I64), I64)
        return places, code.at(places, code.round_up(code.mul(count, PLACES), LINE), I8), count


def emit(module: ir.Module, spec: ApartMatmulSpec, target: Target, name: str) -> ir.Function:
    """Add the kernel ``name`` for ``spec`` to ``module``."""
    if not supports(target):
        raise ValueError(f"target '{target.name}' does not multiply 64 bytes at once")
    frame = Frame.open(module, target, name)
    code = frame.code
    x = Matmul.load(frame, spec.epilogue)
    p = _Launch(spec, x, frame.scratch)
    split = Split.of(code, code.ceildiv(x.m, ROWS), spec.rows_per_unit // ROWS)
    with spec.division.each(code, frame.begin, frame.end) as unit:
        first, tiles = split.block(code, unit.block)
        start = code.mul(first, ROWS)
        rows = code.min(code.mul(tiles, ROWS), code.sub(x.m, start))
        with code.when(unit.fresh):
            source = Rows(code.at(x.a, code.mul(start, x.lda)), x.lda, spec.k)
            factors = code.at(p.scales, spec.rows_per_unit, F32)
            emit_rows(code, int8.dots(target), source, rows, p.rows(code), p.scales, factors)
            emit_turned(code, p.rows(code), code.mul(tiles, spec.steps))
            with code.loop(0, spec.most) as number:
                short = code.b.trunc(number.index, _I16)
                code.store(short, code.at(p.numbers(code), number.index, _I16))
            emit_lines(code, p.rows(code), code.ceildiv(tiles, TILES), spec.steps * TILE_BYTES)
        _multiply(code, p, unit, start, rows, tiles)
    return frame.close()


def _multiply(code: Code, p: _Launch, unit: Unit, start: Int, rows: Int, tiles: Int) -> None:
    spec, x = p.spec, p.x
    strips = PANEL // spec.wide
    with code.loop(0, tiles, TILES) as group, code.loop(unit.first, unit.last) as panel:
        done = code.mul(group.index, ROWS)
        count = code.min(code.sub(tiles, group.index), TILES)
        size = code.min(code.sub(rows, done), code.mul(count, ROWS))
        left = code.at(p.rows(code), code.mul(group.index, spec.row_bytes), I8)
        columns = p.columns(code, panel.index)
        with code.loop(0, strips) as s:
            strip = p.strip(code, code.add(code.mul(panel.index, strips), s.index))
            column = code.mul(s.index, spec.wide)
            begins, out = code.at(columns, column), code.at(p.tile(code), column)
            if spec.wide == NARROW:
                emit_apart(code, left, count, strip, begins, out)
            else:
                _wide(code, p, left, (count, size), strip, begins, out)
        sums = Sums(p.tile(code), x.c, x.ldc, spec.n, spec.epilogue, x.operands)
        scaled = Scaled(code.at(columns, PANEL), code.at(p.scales, done, F32), whole=True)
        first = code.add(start, done)
        with code.loop(0, size) as row:
            sums.finish(code, row.index, code.add(first, row.index), panel.index, scaled)


def _wide(
    code: Code,
    p: _Launch,
    left: ir.Value,
    size: tuple[Int, Int],
    strip: tuple[ir.Value, ir.Value, ir.Value],
    begins: ir.Value,
    out: ir.Value,
) -> None:
    """So many tiles and rows by a strip of 16 columns."""
    (tiles, rows), stride = size, p.spec.woven_bytes
    places, blocks, count = strip
    woven = p.woven(code)
    emit_woven(code, left, tiles, places, count, woven, stride)
    with code.loop(0, tiles) as tile:
        own = code.at(woven, code.mul(tile.index, stride), I8)
        to = code.at(out, code.mul(tile.index, ROWS * PANEL))
        some = code.min(code.sub(rows, code.mul(tile.index, ROWS)), ROWS)
        emit_blocks(code, 4, own, some, (p.numbers(code), blocks, count), begins, to)

"""LLVM emitter of the matmul with blocks."""

from __future__ import annotations

from dataclasses import dataclass

from llvmlite import ir

from tilewright.backends.kernels.block_matmul.spec import (
    NUMBER,
    TILE_OF_SUMS,
    BlockMatmulSpec,
    scale_bytes,
)
from tilewright.backends.llvm import int8
from tilewright.backends.llvm.amx import ROWS, TILE_BYTES
from tilewright.backends.llvm.builder import F32, I8, I64, Code, Int
from tilewright.backends.llvm.frame import Frame, Matmul, Split, Unit
from tilewright.backends.llvm.int8_rows import Rows, emit_rows
from tilewright.backends.llvm.microkernel import PANEL
from tilewright.backends.llvm.narrow_blocks import NARROW, TILES, emit_narrow
from tilewright.backends.llvm.sparse_blocks import (
    GROUPS,
    LINE,
    STRIP,
    STRIPS,
    emit_blocks,
    emit_f32_rows,
    emit_turned,
    native,
)
from tilewright.backends.llvm.sparse_sums import Scaled, Sums
from tilewright.backends.target import Target


def supports(target: Target) -> bool:
    """x86-64."""
    return target.triple.startswith("x86_64")


@dataclass(frozen=True)
class _Launch:
    """A launch at code generation time."""

    spec: BlockMatmulSpec
    x: Matmul
    scratch: ir.Value
    own: bool
    """Whether products are of what is stored."""

    @property
    def scales(self) -> ir.Value:
        return self.scratch

    def rows(self, code: Code) -> ir.Value:
        """Scratch of turned rows."""
        return code.at(self.tile(code), self.spec.sum_bytes, I8)

    def tile(self, code: Code) -> ir.Value:
        """Scratch of sums."""
        return code.at(self.scratch, scale_bytes(self.spec), I8)

    def columns(self, code: Code, panel: Int) -> ir.Value:
        """Sums and scales of the columns of a panel."""
        at = code.add(self.spec.head_bytes, code.mul(panel, self.spec.column_bytes))
        return code.at(self.x.b, at, I8)

    def strip(self, code: Code, index: Int) -> tuple[ir.Value, ir.Value, ir.Value]:
        """Numbers of blocks, blocks, how many."""
        at = code.at(self.x.b, code.mul(index, 2), I64)
        numbers = code.at(self.x.b, code.load(at, I64), I8)
        count = code.load(code.at(at, 1, I64), I64)
        return numbers, code.at(numbers, code.round_up(code.mul(count, NUMBER), LINE), I8), count


def emit(module: ir.Module, spec: BlockMatmulSpec, target: Target, name: str) -> ir.Function:
    """Add the kernel ``name`` for ``spec`` to ``module``."""
    if not supports(target):
        raise ValueError(f"target '{target.name}' has no products of blocks")
    frame = Frame.open(module, target, name)
    code = frame.code
    x = Matmul.load(frame, spec.epilogue)
    own = native(target, spec.q)
    p = _Launch(spec, x, frame.scratch, own)
    steps = -(-spec.groups // GROUPS) if own else -(-spec.k // GROUPS)
    split = Split.of(code, code.ceildiv(x.m, ROWS), spec.rows_per_unit // ROWS)
    with spec.division.each(code, frame.begin, frame.end) as unit:
        first, tiles = split.block(code, unit.block)
        start = code.mul(first, ROWS)
        rows = code.min(code.mul(tiles, ROWS), code.sub(x.m, start))
        with code.when(unit.fresh):
            _bring(code, p, start, rows)
            emit_turned(code, p.rows(code), code.mul(tiles, steps))
        multiply = _narrow if spec.wide == NARROW else _wide
        multiply(code, p, unit, start, rows, tiles, steps * TILE_BYTES)
    return frame.close()


def _wide(
    code: Code, p: _Launch, unit: Unit, start: Int, rows: Int, tiles: Int, stride: int
) -> None:
    """Blocks of 16 columns: a tile of rows, ``stride`` bytes apart, at a time."""
    with code.loop(0, tiles) as tile, code.loop(unit.first, unit.last) as panel:
        left = code.at(p.rows(code), code.mul(tile.index, stride), I8)
        done = code.mul(tile.index, ROWS)
        size = code.min(code.sub(rows, done), ROWS)
        for s in range(STRIPS):
            strip = p.strip(code, code.add(code.mul(panel.index, STRIPS), s))
            begins = code.at(p.columns(code, panel.index), s * STRIP)
            out = code.at(p.tile(code), s * STRIP)
            emit_blocks(code, p.spec.q, left, size, strip, begins, out)
        _finish(code, p, code.add(start, done), done, size, panel.index)


def _narrow(
    code: Code, p: _Launch, unit: Unit, start: Int, rows: Int, tiles: Int, stride: int
) -> None:
    """Blocks of 4 columns: several tiles of rows at a time."""
    strips = PANEL // NARROW
    with code.loop(0, tiles, TILES) as group, code.loop(unit.first, unit.last) as panel:
        left = code.at(p.rows(code), code.mul(group.index, stride), I8)
        count = code.min(code.sub(tiles, group.index), TILES)
        hold = code.at(p.tile(code), TILES * TILE_OF_SUMS, I8)
        with code.loop(0, strips) as s:
            strip = p.strip(code, code.add(code.mul(panel.index, strips), s.index))
            column = code.mul(s.index, NARROW)
            begins = code.at(p.columns(code, panel.index), column)
            out = code.at(p.tile(code), column)
            emit_narrow(code, p.spec.q, left, stride, count, strip, begins, out, hold)
        done = code.mul(group.index, ROWS)
        size = code.min(code.sub(rows, done), code.mul(count, ROWS))
        _finish(code, p, code.add(start, done), done, size, panel.index)


def _bring(code: Code, p: _Launch, start: Int, rows: Int) -> None:
    """Rows as they are multiplied, each by itself."""
    spec, x = p.spec, p.x
    source, out = code.at(x.a, code.mul(start, x.lda)), p.rows(code)
    if not p.own or spec.q == 1:
        emit_f32_rows(code, source, x.lda, rows, spec.k, out)
    else:
        factors = code.at(p.scales, spec.rows_per_unit, F32)
        d = int8.dots(code.target)
        emit_rows(code, d, Rows(source, x.lda, spec.k), rows, out, p.scales, factors)


def _finish(code: Code, p: _Launch, start: Int, done: Int, size: Int, panel: Int) -> None:
    """Sums of some rows to C; ``done``: rows of the unit before."""
    spec, x = p.spec, p.x
    sums = Sums(p.tile(code), x.c, x.ldc, spec.n, spec.epilogue, x.operands)
    scaled = None
    if spec.q == 4:
        scales = code.at(p.columns(code, panel), PANEL)
        scaled = Scaled(scales, code.at(p.scales, done, F32) if p.own else None, whole=p.own)
    with code.loop(0, size) as row:
        sums.finish(code, row.index, code.add(start, row.index), panel, scaled)

"""Products with panels of B in some short form: they are brought to bf16 or f32 in scratch for a
block of rows, and multiplied by all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from llvmlite import ir

from tilewright.backends.llvm import bf16, bf16_gemm, gemm
from tilewright.backends.llvm import epilogue as epilogues
from tilewright.backends.llvm.amx import ROWS
from tilewright.backends.llvm.bf16_block import emit_block, row_tile_bytes, steps
from tilewright.backends.llvm.bf16_microkernel import PLANE_BYTES
from tilewright.backends.llvm.builder import I8, Code, Int, i64
from tilewright.backends.llvm.epilogue import Epilogue, Operand
from tilewright.backends.llvm.frame import Frame, Matmul, Split
from tilewright.backends.llvm.microkernel import PANEL

MOST_ROWS = 256
"""Most rows of a unit; every block of rows widens B again."""

HEAD_BYTES = -(-max(bf16_gemm.SCRATCH_BYTES, gemm.TILE_BYTES) // 64) * 64
"""Scratch before all else: tiles of sums."""

_PANELS_BYTES = 1 << 19
"""What the widened panels of a unit take of L2 at most."""

Widen = Callable[[Code, ir.Value, ir.Value, bool], None]
"""(packed panel, where to, whether to bf16): bf16 [steps][16 pairs][32][2], or f32 [K in whole
steps of 32][32]."""


@dataclass(frozen=True)
class Shape:
    """C[M, N] = A[M, K] B[K, N] in units: blocks of rows by some panels."""

    k: int
    n: int

    @property
    def panels(self) -> int:
        return -(-self.n // PANEL)

    @property
    def panels_per_unit(self) -> int:
        """In fours where there are many, since few rows stream several at once; as many as fit L2
        once they are widened."""
        if self.panels < 8:
            return 1
        wanted = 2 if self.panels < 32 else 4 * -(-self.panels // 64)
        return max(1, min(wanted, _PANELS_BYTES // (2 * PANEL * max(self.k, 1))))

    @property
    def rows_per_unit(self) -> int:
        """At most this many rows, in pairs of tiles: their block keeps to 1.25 MiB of L2."""
        bytes_a = 2 * max(row_tile_bytes(self.k, 1), 1)
        return 2 * ROWS * max(1, min(MOST_ROWS // (2 * ROWS), (5 << 18) // bytes_a))

    @property
    def wide_bytes(self) -> int:
        """Scratch of widened panels: those of a unit in bf16, half as many in f32."""
        return max(self.panels_per_unit, 2) * steps(self.k) * PLANE_BYTES

    @property
    def across(self) -> int:
        """Units side by side."""
        return -(-self.panels // self.panels_per_unit)

    def units(self) -> str:
        """Number of work units, a formula over the dims."""
        return f"ceildiv(p0, {self.rows_per_unit}) * {self.across}"

    def scratch_bytes(self, few: int, each: int) -> str:
        """Bytes of scratch, a formula over the dims; up to ``few`` rows take ``each`` instead."""
        tiles = f"ceildiv(min(p0, {self.rows_per_unit}), {ROWS})"
        many = f"{self.wide_bytes} + {tiles} * {row_tile_bytes(self.k, 1)}"
        return f"{HEAD_BYTES} + max(min(p0, {few}) * {each}, {many})"


@dataclass(frozen=True)
class Block:
    """``rows`` rows from ``start`` on, by the panels [first, last)."""

    start: Int
    rows: Int
    first: Int
    last: Int

    def a(self, code: Code, call: Call) -> ir.Value:
        """The first of the rows."""
        return code.at(call.a, code.mul(self.start, call.lda))


@dataclass(frozen=True)
class Call:
    """Arguments of a launch at code generation time; ``panel_bytes`` of a packed panel."""

    shape: Shape
    epilogue: Epilogue
    panel_bytes: int
    m: ir.Value
    lda: ir.Value
    ldc: ir.Value
    a: ir.Value
    b: ir.Value
    c: ir.Value
    operands: Sequence[Operand]
    begin: ir.Value
    end: ir.Value
    scratch: ir.Value

    @classmethod
    def of(cls, frame: Frame, shape: Shape, epilogue: Epilogue, panel_bytes: int) -> Call:
        """Of a kernel for a MatmulTask."""
        x = Matmul.load(frame, epilogue)
        ends = (frame.begin, frame.end, frame.scratch)
        given = (x.m, x.lda, x.ldc, x.a, x.b, x.c, x.operands)
        return cls(shape, epilogue, panel_bytes, *given, *ends)

    def room(self, code: Code) -> ir.Value:
        """Scratch behind the tiles of sums."""
        return code.at(self.scratch, HEAD_BYTES, I8)

    def panel(self, code: Code, index: Int) -> ir.Value:
        """A packed panel."""
        return code.at(self.b, code.mul(index, self.panel_bytes), I8)

    def emit_blocks(self, code: Code, most: int, emit: Callable[[Code, Call, Block], None]) -> None:
        """Instead of widening: ``emit`` for blocks of ``most`` rows, if units are counted by these.
        All units of a block that this thread has are one, so that several panels may stream side
        by side."""
        across, width = self.shape.across, self.shape.panels_per_unit
        with code.loop(code.div(self.begin, across), code.ceildiv(self.end, across)) as block:
            start = code.mul(block.index, most)
            rows = code.min(code.sub(self.m, start), most)
            units = code.mul(block.index, across)
            begin = code.sub(code.max(self.begin, units), units)
            end = code.min(code.sub(self.end, units), across)
            last = code.min(code.mul(end, width), self.shape.panels)
            emit(code, self, Block(start, rows, code.mul(begin, width), last))

    def finish(self, code: Code, sums: ir.Value, row: Int, panel: Int) -> None:
        """``sums`` [32] f32 of a row and a panel through the epilogue to C."""
        lanes, n = code.target.lanes_f32, self.shape.n
        column = code.mul(panel, PANEL)
        target = code.at(code.at(self.c, code.mul(row, self.ldc)), column)
        for v in range(0, PANEL, lanes):
            at = code.add(column, v)
            mask = None if n % PANEL == 0 else code.first_lanes(code.sub(n, at), lanes)
            value = code.vload(code.at(sums, v), lanes)
            value = epilogues.emit(code, self.epilogue, value, self.operands, row, at, mask)
            code.vstore(value, code.at(target, v), mask)


def emit(code: Code, call: Call, widen: Widen) -> None:
    """The units [begin, end): bf16 where the target multiplies it, else f32."""
    if bf16.has_dots(code.target):
        _emit_bf16(code, call, widen)
    else:
        _emit_f32(code, call, widen)


def _emit_bf16(code: Code, call: Call, widen: Widen) -> None:
    """Panels of a unit in bf16, then tiles or dot products of all rows of its block."""
    shape = call.shape
    wide = call.room(code)
    block_a = code.at(wide, shape.wide_bytes, I8)
    # Blocks of nearly equal size, whole pairs of tiles; none is empty, as rows_per_unit is a
    # multiple of such pairs too.
    blocks = code.max(code.ceildiv(call.m, shape.rows_per_unit), 1)
    size = code.round_up(code.ceildiv(call.m, blocks), 2 * ROWS)
    bytes_wide = steps(shape.k) * PLANE_BYTES
    bf16_gemm.begin(code, call.m)
    # Units of one block follow each other, so its rows are converted once a thread.
    with code.loop(call.begin, call.end, 1, [i64(-1)]) as unit:
        number = code.div(unit.index, shape.across)
        start = code.mul(number, size)
        rows = code.min(code.sub(call.m, start), size)
        with code.when(code.cmp("!=", number, unit.carried[0])):
            own = code.at(call.a, code.mul(start, call.lda))
            emit_block(code, own, call.lda, rows, shape.k, 1, block_a)
        unit.next = [i64(number)]
        first, last = _panels(code, shape, unit.index)
        with code.loop(first, last) as panel:
            place = code.at(wide, code.mul(code.sub(panel.index, first), bytes_wide), I8)
            widen(code, call.panel(code, panel.index), place, True)
        product = bf16_gemm.Product(
            a=block_a,
            b=code.at(wide, code.mul(first, -bytes_wide), I8),
            k=shape.k,
            products=1,
            c=code.at(call.c, code.mul(start, call.ldc)),
            ldc=call.ldc,
            n=shape.n,
            tile=call.scratch,
            epilogue=call.epilogue,
            operands=call.operands,
            row=start,
        )
        bf16_gemm.emit_rows(code, product, rows, first, last)
    bf16_gemm.end(code, call.m)


def _emit_f32(code: Code, call: Call, widen: Widen) -> None:
    """One panel after another in f32."""
    shape = call.shape
    wide = call.room(code)
    stride = steps(shape.k) * 32 * PANEL
    split = Split.of(code, call.m, shape.rows_per_unit)
    with code.loop(call.begin, call.end) as unit:
        start, rows = split.block(code, code.div(unit.index, shape.across))
        first, last = _panels(code, shape, unit.index)
        with code.loop(first, last) as panel:
            widen(code, call.panel(code, panel.index), wide, False)
            product = gemm.Product(
                a=code.at(call.a, code.mul(start, call.lda)),
                lda=call.lda,
                b=code.at(wide, code.mul(panel.index, -stride)),
                k=shape.k,
                c=code.at(call.c, code.mul(start, call.ldc)),
                ldc=call.ldc,
                n=shape.n,
                tile=call.scratch,
                epilogue=call.epilogue,
                operands=call.operands,
                panel_stride=stride,
                row=start,
            )
            gemm.emit_rows(code, product, rows, panel.index, code.add(panel.index, 1))


def _panels(code: Code, shape: Shape, unit: Int) -> tuple[Int, Int]:
    first = code.mul(code.rem(unit, shape.across), shape.panels_per_unit)
    return first, code.min(code.add(first, shape.panels_per_unit), shape.panels)

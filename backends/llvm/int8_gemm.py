"""Products of 8-bit blocks with i32 sums: AMX tiles, or dot products for few rows.

C = epilogue(A B), A a block of int8_block, B packed panels of 32 columns, s8:
[panel] of [K step of 64][16 quads of k][32 columns][4], then i32 [32] column sums, then, with zero
points, i32 [32] zero points.

    sum (a - s)(b - z) = sum a b - s sum b - z sum (a - s)      a: as held, s: its shift

The second term is what sums begin with (a tile register is loaded from one line with stride 0),
the third follows from row sums of A where there are zero points.

AMX, 2 x 2 registers: 32 rows by one panel. A product of K = 384 takes 400 cycles and its epilogue,
64 vectors, nearly as long; so the epilogue of each block is spread over the steps of the next one,
which leaves it to the vector units while tiles multiply.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from llvmlite import ir

from tilewright.backends.llvm import amx, int8
from tilewright.backends.llvm import epilogue as epilogues
from tilewright.backends.llvm.amx import ROW_BYTES, ROWS, TILE_BYTES
from tilewright.backends.llvm.builder import F32, I8, I32, Code, Int, i64, zeros
from tilewright.backends.llvm.epilogue import Epilogue, Operand
from tilewright.backends.llvm.int8 import Dots
from tilewright.backends.llvm.int8_block import line, row_tile_bytes, steps
from tilewright.backends.llvm.int8_microkernel import (
    STEP_BYTES,
    dot_kernel,
    most_rows,
    wide_panels,
)
from tilewright.backends.llvm.microkernel import PANEL

AMX_ROWS = 8
"""From so many rows on, 16 x 16 tiles are faster than dot products: with K x N = 384 x 384 and
384 x 1536 from 7, with 1536 x 1536 from L3 from 9."""

NEAR = 24 << 10
"""Panels up to this size are asked for into L1, half of which they take; longer ones into L2."""

STREAM = 8 << 10
"""How far ahead of its use B is asked for where one block of rows reads it once."""

ELEMENTS: dict[str, ir.Type] = {"i32": I32, "f32": F32, "u8": I8, "s8": I8}
"""Types of C."""

_TILE = 2 * ROWS * PANEL * 4
SCRATCH_BYTES = 2 * _TILE + 4 * PANEL * 4
"""Scratch: two blocks of C, and what the sums of four panels (of tiles: of two turns) begin
with."""


def panel_bytes(k: int, zero_points: bool) -> int:
    """Bytes of one packed panel."""
    return steps(k) * STEP_BYTES + 4 * PANEL * (2 if zero_points else 1)


@dataclass(frozen=True)
class Product:
    """A block product at code generation time.

    ``a``: block of int8_block, shifted by ``shift``; ``b``: panel 0; ``c``: element (0, 0) of type
    ``out``, row stride ``ldc``. ``n``: columns of C. ``sums``: row sums of A as i32, needed with
    ``zero_points``. ``scratch``: SCRATCH_BYTES. ``row``, ``column``: global index of element
    (0, 0), for the epilogue's operands. u8 and s8 results take the f32 that the epilogue gives, cut
    off at the limits of the type.
    """

    a: ir.Value
    b: ir.Value
    k: int
    shift: int
    zero_points: bool
    c: ir.Value
    ldc: Int
    n: int
    out: str
    scratch: ir.Value
    sums: ir.Value | None
    epilogue: Epilogue
    operands: Sequence[Operand]
    row: Int = 0
    column: Int = 0

    @property
    def plain(self) -> bool:
        """The sums are the result."""
        return self.epilogue.identity and not self.zero_points and self.out == "i32"

    @property
    def panel_bytes(self) -> int:
        return panel_bytes(self.k, self.zero_points)

    def at(self, code: Code, row: Int, column: Int) -> ir.Value:
        """Address of an element of C."""
        kind = ELEMENTS[self.out]
        return code.at(code.at(self.c, code.mul(row, self.ldc), kind), column, kind)


def begin(code: Code, rows: Int) -> None:
    """Before the first ``emit_rows`` of a kernel; ``rows``: the most that one of them gets."""
    if amx.has_int8(code.target):
        with code.when(code.cmp(">=", rows, AMX_ROWS)):
            amx.configure(code)


def end(code: Code, rows: Int) -> None:
    """After the last ``emit_rows``, with the ``rows`` of ``begin``."""
    if amx.has_int8(code.target):
        with code.when(code.cmp(">=", rows, AMX_ROWS)):
            amx.release(code)


def emit_rows(code: Code, p: Product, rows: Int, first: Int, last: Int) -> None:
    """All of ``rows`` > 0 rows by the panels [first, last)."""
    d = int8.dots(code.target)
    if not amx.has_int8(code.target):
        _dots(code, d, p, rows, first, last, most_rows(d))
        return
    with code.either(code.cmp(">=", rows, AMX_ROWS)) as (many, few):
        with many:
            _tiles(code, d, p, rows, first, last)
        with few:
            _dots(code, d, p, rows, first, last, AMX_ROWS - 1)


def _start(code: Code, d: Dots, p: Product, panel: Int, panels: Int, first: Int = 0) -> ir.Value:
    """i32 [panels][32] that the sums of ``panels`` panels begin with, in the room of ``first``."""
    room = code.at(p.scratch, code.add(2 * _TILE, code.mul(first, 4 * PANEL)), I8)
    with code.loop(0, panels) as part:
        b = code.at(p.b, code.mul(code.add(panel, part.index), p.panel_bytes), I8)
        source = code.at(b, steps(p.k) * STEP_BYTES, I8)
        for v in range(0, PANEL, d.lanes):
            value = zeros(ir.VectorType(I32, d.lanes))
            if p.shift:
                factor = code.splat(-p.shift, d.lanes, I32)
                taken = code.vload(code.at(source, v, I32), d.lanes, element=I32)
                value = code.b.mul(taken, factor)
            code.vstore(value, code.at(room, code.add(code.mul(part.index, PANEL), v), I32))
    return room


def _tiles(code: Code, d: Dots, p: Product, rows: Int, first: Int, last: Int) -> None:
    """Panel by panel: its K x 32 bytes stay in L1 while the rows of A pass.

    Turn i multiplies block i and finishes block i - 1; one more turn only finishes. Each pass asks
    for its share of the next panel; a single one for what it needs next.
    """
    bytes_a = row_tile_bytes(d, p.k)
    count = steps(p.k)
    passes = code.ceildiv(rows, 2 * ROWS)
    lines = code.ceildiv(STEP_BYTES // 64, passes)
    turns = code.mul(code.sub(last, first), passes)
    single = code.cmp("==", passes, 1)
    if p.shift:
        _start(code, d, p, first, 1)
    state = [i64(0), i64(0), i64(0)]
    with code.loop(0, code.add(turns, 1), 1, state) as turn:
        then_panel, then_start, then_size = turn.carried
        work = code.cmp("<", turn.index, turns)
        panel = code.add(first, code.div(turn.index, passes))
        pass_ = code.rem(turn.index, passes)
        start = code.mul(pass_, 2 * ROWS)
        size = code.min(code.sub(rows, start), 2 * ROWS)
        two = code.b.and_(work, code.cmp(">", size, ROWS))
        one = code.b.and_(work, code.cmp("<=", size, ROWS))
        parity = code.mul(code.rem(turn.index, 2), _TILE)
        tile = code.at(p.scratch, parity, I8)
        then_tile = code.at(p.scratch, code.sub(_TILE, parity), I8)
        a = code.at(p.a, code.mul(code.div(start, ROWS), bytes_a), I8)
        b = code.at(p.b, code.mul(panel, p.panel_bytes), I8)
        asked = code.mul(code.mul(pass_, lines), 64 * count)
        distance = code.select(single, STREAM, code.add(p.panel_bytes, asked))
        ahead = code.at(b, distance, I8)
        with code.when(work):
            _begin_tiles(code, p, code.rem(turn.index, 2))
        share = code.ceildiv(then_size, max(count, 1))
        with code.loop(0, max(count, 1), 1, [ahead]) as step:
            at_a = code.at(a, code.mul(step.index, TILE_BYTES), I8)
            at_b = code.at(b, code.mul(step.index, STEP_BYTES), I8)
            for rows_of, tiles in ((two, 2), (one, 1)):
                with code.when(rows_of):
                    _multiply(code, at_a, at_b, bytes_a, tiles if count else 0)
            with code.loop(0, lines, 1, step.carried) as ask:
                code.prefetch(ask.carried[0], 3 if p.panel_bytes <= NEAR else 2)
                ask.next = [code.at(ask.carried[0], 64, I8)]
            step.next = ask.carried
            begin_ = code.mul(step.index, share)
            end_ = code.min(code.add(begin_, share), then_size)
            _epilogue(code, d, p, then_tile, then_start, then_panel, begin_, end_)
        if p.shift:
            # A turn before they are used: tiles cannot be loaded from stores that are under way.
            with code.when(work):
                after = code.div(code.add(turn.index, 1), passes)
                _start(
                    code,
                    d,
                    p,
                    code.add(first, code.min(after, code.sub(code.sub(last, first), 1))),
                    1,
                    code.rem(code.add(turn.index, 1), 2),
                )
        left = size
        whole = code.b.or_(code.cmp("==", size, ROWS), code.cmp("==", size, 2 * ROWS))
        out, stride = tile, i64(4 * PANEL)
        if p.plain:
            inside = code.cmp("<=", code.mul(code.add(panel, 1), PANEL), p.n)
            direct = code.b.and_(whole, inside)
            c = p.at(code, start, code.mul(panel, PANEL))
            out = code.b.select(direct, c, tile)
            stride = i64(code.select(direct, code.mul(p.ldc, 4), 4 * PANEL))
            left = code.select(direct, 0, size)
        for rows_of, tiles in ((two, 2), (one, 1)):
            with code.when(rows_of):
                _store_tiles(code, out, stride, tiles)
        turn.next = [i64(panel), i64(start), i64(left)]


def _begin_tiles(code: Code, p: Product, place: Int) -> None:
    """All four tiles of C: zero, or what ``_start`` left at ``place``."""
    start = code.at(p.scratch, code.add(2 * _TILE, code.mul(place, 4 * PANEL)), I8)
    for register in range(4):
        if p.shift:
            amx.load(code, register, code.at(start, register % 2 * ROW_BYTES, I8), 0)
        else:
            amx.zero(code, register)


def _multiply(code: Code, a: ir.Value, b: ir.Value, bytes_a: int, tiles: int) -> None:
    """One step; loads as late as possible, A passes by the panel, which shall stay in L1."""
    for j in range(2 if tiles else 0):
        amx.load(code, 6 + j, code.at(b, j * ROW_BYTES, I8), 2 * ROW_BYTES)
        for i in range(tiles):
            if j == 0:
                amx.load(code, 4 + i, code.at(a, i * bytes_a, I8), ROW_BYTES, passing=True)
            amx.multiply_int8(code, 2 * i + j, 4 + i, 6 + j)


def _store_tiles(code: Code, out: ir.Value, stride: Int, tiles: int) -> None:
    for i in range(tiles):
        row = code.at(out, code.mul(stride, i * ROWS), I8)
        for j in range(2):
            amx.store(code, 2 * i + j, code.at(row, j * ROW_BYTES, I8), stride)


def _dots(code: Code, d: Dots, p: Product, rows: Int, first: Int, last: Int, most: int) -> None:
    """Up to ``most`` rows at a time, few of them by several panels."""
    with code.loop(0, rows, most) as start:
        size = code.min(code.sub(rows, start.index), most)
        a = line(code, d, p.a, start.index, p.k)
        wide: Int = 1
        for r in range(most, 0, -1):
            panels = wide_panels(d, r)
            if panels > 1:
                wide = code.select(code.cmp("<=", size, r), panels, wide)
        edge = code.add(first, code.mul(code.div(code.sub(last, first), wide), wide))
        for begin_, end_, step in ((first, edge, wide), (edge, last, 1)):
            if begin_ is edge and isinstance(wide, int):
                continue
            _dot_panels(code, d, p, a, (start.index, size, most), (begin_, end_, step))


def _dot_panels(
    code: Code,
    d: Dots,
    p: Product,
    a: ir.Value,
    block: tuple[Int, Int, int],
    panels: tuple[Int, Int, Int],
) -> None:
    start, size, most = block
    first, last, step = panels
    with code.loop(0, code.div(code.sub(last, first), step)) as turn:
        panel = code.add(first, code.mul(turn.index, step))
        b = code.at(p.b, code.mul(panel, p.panel_bytes), I8)
        begins = _start(code, d, p, panel, step)
        between: Int = code.mul(size, PANEL)
        inside = code.cmp("<=", code.mul(code.add(panel, step), PANEL), p.n)
        out, stride, across, direct = p.scratch, i64(PANEL), between, None
        if p.plain:
            direct = inside
            c = p.at(code, start, code.mul(panel, PANEL))
            out = code.b.select(direct, c, p.scratch)
            stride = i64(code.select(direct, p.ldc, PANEL))
            across = code.select(direct, PANEL, between)

        def call(r: int) -> None:
            kernel = dot_kernel(code, d, r, 1 if isinstance(step, int) else wide_panels(d, r))
            args = [a, b, steps(p.k), p.panel_bytes, begins, out, stride, across]
            code.b.call(kernel, [i64(x) for x in args])

        code.switch(size, most, call)

        def finish() -> None:
            with code.loop(0, step) as part:
                tile = code.at(p.scratch, code.mul(part.index, between), I32)
                _epilogue(code, d, p, tile, start, code.add(panel, part.index), 0, size)

        if direct is None:
            finish()
        else:
            with code.when(code.b.not_(direct)):
                finish()


def _epilogue(
    code: Code, d: Dots, p: Product, tile: ir.Value, start: Int, panel: Int, begin_: Int, end_: Int
) -> None:
    """Rows [begin, end) of the i32 block ``tile`` [rows][32] to C."""
    with code.loop(begin_, end_) as row:
        m = code.add(start, row.index)
        column = code.mul(panel, PANEL)

        def one(masked: bool) -> None:
            for v in range(0, PANEL, d.lanes):
                at = code.add(column, v)
                mask = code.first_lanes(code.sub(p.n, at), d.lanes) if masked else None
                source = code.at(tile, code.add(code.mul(row.index, PANEL), v), I32)
                value = code.vload(source, d.lanes, element=I32)
                _put(code, d, p, value, m, at, mask, (panel, v))

        if p.n % PANEL == 0:
            one(False)
        elif d.lanes == 16:
            one(True)
        else:
            inside = code.cmp("<=", code.add(column, PANEL), p.n)
            with code.either(inside) as (full, edge):
                with full:
                    one(False)
                with edge:
                    one(True)


def _put(
    code: Code,
    d: Dots,
    p: Product,
    value: ir.Value,
    m: Int,
    n: Int,
    mask: ir.Value | None,
    place: tuple[Int, int],
) -> None:
    """One vector of sums through the epilogue into C."""
    if p.zero_points:
        assert p.sums is not None
        panel, v = place
        b = code.at(p.b, code.mul(panel, p.panel_bytes), I8)
        zero = code.at(b, steps(p.k) * STEP_BYTES + 4 * (PANEL + v), I8)
        total = code.splat(code.load(code.at(p.sums, m, I32), I32), d.lanes)
        product = code.b.mul(code.vload(zero, d.lanes, element=I32), total)
        value = code.b.sub(value, product)
    row, column = code.add(p.row, m), code.add(p.column, n)
    value = epilogues.emit(code, p.epilogue, value, p.operands, row, column, mask)
    code.vstore(_narrow(code, value, p.out), p.at(code, m, n), mask)


def _narrow(code: Code, value: ir.Value, out: str) -> ir.Value:
    """f32 rounded by the epilogue as bytes, cut off at the limits of the type; NaN as the least."""
    if out not in ("u8", "s8"):
        return value
    lanes = value.type.count
    low, high = (0.0, 255.0) if out == "u8" else (-128.0, 127.0)
    least, most = code.splat(low, lanes), code.splat(high, lanes)
    value = code.b.select(code.b.fcmp_ordered(">", value, least), value, least)
    value = code.b.select(code.b.fcmp_ordered("<", value, most), value, most)
    wide = code.b.fptosi(value, ir.VectorType(I32, lanes))
    return code.b.trunc(wide, ir.VectorType(I8, lanes))

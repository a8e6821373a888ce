"""Products of bf16 blocks with f32 sums: AMX tiles, or dot products of pairs for few rows.

C = epilogue(A B), A a block of bf16_block, B packed panels of 32 columns:
[panel][K step of 32][plane][16 pairs of k][32 columns][2]. Both sides may be sums of several bf16
planes; bf16.ORDER says which products are summed.

AMX, 2 x 2 registers (compiler reference C4): 32 rows by one panel, 4 KiB loaded for four
multiplications. One product needs 8 loads; three need 16 for 12, six 28 for 24.
Without AMX, and for fewer than AMX_ROWS rows: vdpbf16ps, 8 rows by a panel, or few rows by several
panels, which streams B along several lines.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from llvmlite import ir

from tilewright.backends.llvm import amx, bf16, bf16_pipeline, formats
from tilewright.backends.llvm import epilogue as epilogues
from tilewright.backends.llvm.amx import ROW_BYTES, ROWS
from tilewright.backends.llvm.bf16_block import row_tile_bytes
from tilewright.backends.llvm.bf16_microkernel import (
    PLANE_BYTES,
    ask,
    dot_kernel,
    internal,
    packed,
    tile_kernel,
)
from tilewright.backends.llvm.bf16_product import Product, panel_bytes
from tilewright.backends.llvm.builder import I8, I64, PTR, VOID, Code, Int, i64
from tilewright.backends.llvm.microkernel import PANEL
from tilewright.backends.llvm.split_tiles import Finish

SCRATCH_BYTES = bf16_pipeline.SCRATCH_BYTES
"""Scratch of blocks of C."""

PIPED_FROM = 512
"""From this K on sums without an epilogue also wait in scratch and go to C beside tiles: 12 % less
time at 512 x 512 x 512, 20 % more at 3136 x 64 x 256."""

AMX_ROWS = 4
"""From so many rows on, 16 x 16 tiles are faster than dot products."""

DOT_ROWS = 8
"""Rows of a block of dot products: with a panel 16 accumulators."""

_LANES = bf16.LANES

__all__ = ["Product", "begin", "block_from", "emit_rows", "end", "panel_bytes"]


def begin(code: Code, rows: Int) -> None:
    """Before the first ``emit_rows`` of a kernel; ``rows``: the most that one of them gets."""
    if amx.has_bf16(code.target):
        with code.when(code.cmp(">=", rows, AMX_ROWS)):
            amx.configure(code)


def end(code: Code, rows: Int) -> None:
    """After the last ``emit_rows``, with the ``rows`` of ``begin``."""
    if amx.has_bf16(code.target):
        with code.when(code.cmp(">=", rows, AMX_ROWS)):
            amx.release(code)


def block_from(code: Code, target_rows: Int) -> Int:
    """The first of so many rows that is not in whole tiles of its pair, a multiple of a pair: what
    tiles that are loaded from A itself do not reach."""
    rest = code.rem(target_rows, 2 * ROWS)
    pairs = code.sub(target_rows, rest)
    whole = code.b.or_(code.cmp("==", rest, 0), code.cmp("==", rest, ROWS))
    many = code.cmp(">=", target_rows, AMX_ROWS)
    return code.select(many, code.select(whole, target_rows, pairs), 0)


def emit_rows(code: Code, p: Product, rows: Int, first: Int, last: Int) -> None:
    """All of ``rows`` > 0 rows by the panels [first, last)."""
    if not amx.has_bf16(code.target):
        _dots(code, p, rows, first, last)
        return
    with code.either(code.cmp(">=", rows, AMX_ROWS)) as (many, few):
        with many:
            _tiles(code, p, rows, first, last)
        with few:
            _dots(code, p, rows, first, last, AMX_ROWS - 1)


def _tiles(code: Code, p: Product, rows: Int, first: Int, last: Int) -> None:
    """Panel by panel: its K x 32 bf16 stay in L1 or L2 while the rows of A pass.

    Each pass asks for its share of panels to come: with weights from L3 10 % faster."""
    if p.finished or p.k >= PIPED_FROM:
        _piped(code, p, rows, first, last)
        return
    passes = code.ceildiv(rows, 2 * ROWS)
    lines = code.ceildiv(p.planes * PLANE_BYTES // 64, passes)
    with code.loop(first, last) as panel, code.loop(0, rows, 2 * ROWS) as start:
        size = code.min(code.sub(rows, start.index), 2 * ROWS)
        b = code.at(p.b, code.mul(panel.index, p.panel_bytes), I8)
        share = code.mul(code.div(start.index, 2 * ROWS), code.mul(lines, 64 * p.steps))
        ahead = code.at(code.at(b, p.panel_bytes, I8), share, I8)
        _straight(code, p, (b, ahead, i64(lines)), start.index, size, panel.index)


def _piped(code: Code, p: Product, rows: Int, first: Int, last: Int) -> None:
    """By way of the pipeline."""
    passes = code.ceildiv(rows, 2 * ROWS)
    lines = code.ceildiv(p.planes * PLANE_BYTES // 64, code.mul(passes, p.streams))
    pipeline = bf16_pipeline.Pipeline(
        finish=Finish(p.n, p.epilogue, p.stored),
        products=p.products,
        operands=p.operands,
        scratch=p.tile,
        c=p.c,
        ldc=p.ldc,
        row=p.row,
        column=p.column,
        panel_bytes=p.panel_bytes,
        streams=p.streams,
    )
    length: Int = p.slice
    buffers: Int = 2
    if p.slice < p.steps:
        # Sums of all rows of a panel wait together. Of 32 rows each slice is read once: 4 to 16 %
        # slower; 64 rows gain 0 to 9 %, but GPT-2 loses 3 %; 96 and more gain 5 to 16 %.
        fits = code.cmp("<", passes, bf16_pipeline.BLOCKS)
        fits = code.b.and_(fits, code.cmp(">", passes, 2))
        length = code.select(fits, p.slice, p.steps)
        buffers = code.select(fits, code.add(passes, 1), 2)
    pipeline.begin(code)
    with code.loop(first, last) as panel:
        turn = code.rem(code.sub(panel.index, first), p.streams)
        group = code.add(code.sub(panel.index, turn), p.streams)
        others = code.max(code.min(code.sub(last, group), p.streams), 0)
        asked = code.select(code.cmp(">", others, 0), lines, 0)
        ahead = code.at(p.b, code.mul(group, p.panel_bytes), I8)

        b = code.at(p.b, code.mul(panel.index, p.panel_bytes), I8)
        with code.loop(0, max(p.steps, 1), length) as begin, code.loop(0, passes) as turn_of_rows:
            stop = code.min(code.add(begin.index, length), p.steps)
            count = code.sub(stop, begin.index)
            start = code.mul(turn_of_rows.index, 2 * ROWS)
            size = code.min(code.sub(rows, start), 2 * ROWS)
            # Steps that were multiplied since the group's first panel began.
            past = code.mul(code.add(code.mul(turn, p.steps), begin.index), passes)
            past = code.add(past, code.mul(turn_of_rows.index, count))
            share = code.mul(past, code.mul(lines, 64))
            number = code.add(code.mul(panel.index, passes), turn_of_rows.index)
            left = _left(code, p, start, size)
            left = replace(left, base=code.at(left.base, code.mul(begin.index, left.step), I8))
            pipeline.block(
                code,
                left,
                code.at(b, code.mul(begin.index, p.planes * PLANE_BYTES), I8),
                count,
                bf16_pipeline.Place(
                    row=start,
                    column=code.mul(panel.index, PANEL),
                    size=size,
                    buffer=code.rem(number, buffers),
                    fresh=code.cmp("==", begin.index, 0),
                    whole=code.cmp("==", stop, p.steps),
                ),
                bf16_pipeline.Ahead(code.at(ahead, share, I8), asked, others),
            )
    pipeline.end(code)


def _left(code: Code, p: Product, start: Int, size: Int) -> bf16_pipeline.Left:
    """The rows of a pass: A itself where they are whole tiles, else those of
    the block."""
    block = code.at(p.a, code.mul(code.div(start, ROWS), row_tile_bytes(p.k, p.planes)), I8)
    strides: tuple[Int, ...] = packed(p.steps, p.planes)
    if p.rows_a is not None:
        base, lda = p.rows_a
        own = code.at(base, code.mul(start, lda), formats.ELEMENT[formats.BF16_FORMAT])
        whole = code.b.or_(code.cmp("==", size, ROWS), code.cmp("==", size, 2 * ROWS))
        row = code.mul(lda, 2)
        direct = (row, ROW_BYTES, code.mul(row, ROWS))
        strides = tuple(code.select(whole, x, y) for x, y in zip(direct, strides, strict=True))
        block = code.b.select(whole, own, block)
    row, step, tile = strides
    return bf16_pipeline.Left(block, row, step, tile)


def _straight(
    code: Code,
    p: Product,
    operands: tuple[ir.Value, ir.Value, ir.Value],
    start: Int,
    size: Int,
    panel: Int,
) -> None:
    """A block without an epilogue, into C itself if it is whole."""
    b, ahead, lines = operands
    a = _left(code, p, start, size)

    def multiply(c: ir.Value, ldc: Int) -> None:
        args = [a.base, b, i64(p.steps), c, i64(code.mul(ldc, 4))]
        args += [i64(a.row), i64(a.step), i64(a.tile), ahead, lines]
        with code.either(code.cmp(">", size, ROWS)) as (two, one):
            with two:
                code.b.call(tile_kernel(code, 2, p.products), args)
            with one:
                code.b.call(tile_kernel(code, 1, p.products), args)

    _ask_for_c(code, p, start, size, panel)
    whole = code.b.or_(code.cmp("==", size, ROWS), code.cmp("==", size, 2 * ROWS))
    _finish(code, p, start, size, panel, 1, whole, lambda c, ldc, _: multiply(c, ldc))


def _ask_for_c(code: Code, p: Product, start: Int, size: Int, panel: Int) -> None:
    """Get the lines of a block of C for writing while its sums are computed.

    With C in L3 (3136 x 64 x 256 between other kernels) 2.3 times as fast, 128 x 384 x 1536 22 to
    60 %; with C in L2 6 % slower.
    """
    element = formats.ELEMENT[p.stored]
    lines = PANEL * formats.BYTES[p.stored] // 64
    name = f"tilewright_ask_for_block_{lines}"
    fn = code.module.globals.get(name)
    if fn is None:
        fn, inner = internal(code, ir.FunctionType(VOID, [PTR, I64, I64]), name)
        first, stride, count = fn.args
        with inner.loop(0, count) as row:
            line = inner.at(first, inner.mul(row.index, stride), element)
            for part in range(lines):
                ask(inner, inner.at(line, 64 * part, I8), write=True)
        inner.b.ret_void()
    c = code.at(p.c, code.mul(start, p.ldc), element)
    c = code.at(c, code.mul(panel, PANEL), element)
    code.b.call(fn, [c, i64(p.ldc), i64(size)])


def _dots(
    code: Code, p: Product, rows: Int, first: Int, last: Int, most: int | None = None
) -> None:
    """Up to DOT_ROWS rows at a time; ``most``: bound of ``rows``, if there is one."""
    bound = DOT_ROWS if most is None else min(most, DOT_ROWS)
    bytes_a = row_tile_bytes(p.k, p.planes)
    with code.loop(0, rows, DOT_ROWS) as start:
        size = code.min(code.sub(rows, start.index), DOT_ROWS)
        tile = code.mul(code.div(start.index, ROWS), bytes_a)
        line = code.mul(code.rem(start.index, ROWS), ROW_BYTES)
        a = code.at(p.a, code.add(tile, line), I8)
        panels = code.select(code.cmp("<=", size, 3), 4, code.select(code.cmp("<=", size, 6), 2, 1))
        wide = code.add(first, code.mul(code.div(code.sub(last, first), panels), panels))
        for begin_, end_, step in ((first, wide, panels), (wide, last, 1)):
            single = isinstance(step, int)
            _dot_panels(code, p, a, start.index, size, bound, begin_, end_, step, single)


def _dot_panels(
    code: Code,
    p: Product,
    a: ir.Value,
    start: Int,
    size: Int,
    bound: int,
    first: Int,
    last: Int,
    step: Int,
    single: bool,
) -> None:
    with code.loop(0, code.div(code.sub(last, first), step)) as turn:
        panel = code.add(first, code.mul(turn.index, step))
        b = code.at(p.b, code.mul(panel, p.panel_bytes), I8)

        def multiply(c: ir.Value, ldc: Int, between: Int) -> None:
            args = [i64(x) for x in (a, b, p.steps, c, ldc, between)]
            code.switch(
                size,
                bound,
                lambda r: code.b.call(
                    dot_kernel(code, r, 1 if single else _wide(r), p.products), args
                ),
            )

        _finish(code, p, start, size, panel, step, code.cmp("==", 0, 0), multiply)


def _wide(rows: int) -> int:
    """Panels at a time whose accumulators fit 32 registers."""
    return 4 if rows <= 3 else 2 if rows <= 6 else 1


def _finish(
    code: Code,
    p: Product,
    start: Int,
    size: Int,
    panel: Int,
    panels: Int,
    whole: ir.Value,
    multiply: Callable[[ir.Value, Int, Int], None],
) -> None:
    """``multiply(c, row stride, panel stride)`` straight into C, or into the scratch tile and
    from there through the epilogue. ``whole``: ``multiply`` writes no more than ``size`` rows."""
    element = formats.ELEMENT[p.stored]
    c = code.at(p.c, code.mul(start, p.ldc), element)
    c = code.at(c, code.mul(panel, PANEL), element)
    between: Int = code.mul(size, PANEL)
    if not p.finished:
        inside = code.cmp("<=", code.mul(code.add(panel, panels), PANEL), p.n)
        direct = code.b.and_(whole, inside)
        out = code.b.select(direct, c, p.tile)
        stride, across = code.select(direct, p.ldc, PANEL), code.select(direct, PANEL, between)
        multiply(out, stride, across)
        with code.when(code.b.not_(direct)):
            _epilogue(code, p, c, start, size, panel, panels)
        return
    multiply(p.tile, PANEL, between)
    _epilogue(code, p, c, start, size, panel, panels)


def _epilogue(
    code: Code, p: Product, c: ir.Value, start: Int, size: Int, panel: Int, panels: Int
) -> None:
    """From the tile [panel][row][32] to C. One loop for full and partial panels: a mask of all
    ones costs nothing."""
    with code.loop(0, panels) as part, code.loop(0, size) as row:
        column = code.mul(code.add(panel, part.index), PANEL)
        line = code.mul(code.add(code.mul(part.index, size), row.index), PANEL)
        element = formats.ELEMENT[p.stored]
        place = code.add(code.mul(row.index, p.ldc), code.mul(part.index, PANEL))
        target = code.at(c, place, element)
        for v in range(0, PANEL, _LANES):
            at = code.add(column, v)
            mask = None if p.n % PANEL == 0 else code.first_lanes(code.sub(p.n, at), _LANES)
            value = code.vload(code.at(p.tile, code.add(line, v)), _LANES)
            m = code.add(p.row, code.add(start, row.index))
            n = code.add(p.column, at)
            value = epilogues.emit(code, p.epilogue, value, p.operands, m, n, mask)
            formats.store(code, value, code.at(target, v, element), mask, p.stored)

"""Products of 8-bit rows and columns with scales: AMX tiles, or dot products for few rows."""

from __future__ import annotations

from llvmlite import ir

from tilewright.backends.llvm import amx, formats, int8
from tilewright.backends.llvm.bf16_block import STEP as TAIL
from tilewright.backends.llvm.bf16_microkernel import internal
from tilewright.backends.llvm.builder import F32, I8, I32, PTR, VOID, Code, Int, i64, zeros
from tilewright.backends.llvm.int8 import Dots
from tilewright.backends.llvm.int8_block import line
from tilewright.backends.llvm.int8_microkernel import (
    STEP_BYTES,
    dot_kernel,
    most_rows,
    wide_panels,
)
from tilewright.backends.llvm.int8_scaled_product import Lines, Product
from tilewright.backends.llvm.int8_scaled_tiles import emit_tiles
from tilewright.backends.llvm.microkernel import PANEL

AMX_ROWS = 8
"""From so many rows on tiles are faster than dot products; as int8_gemm.AMX_ROWS."""

_TAILS = ir.FunctionType(VOID, [PTR, PTR, PTR])


def by_tiles(code: Code, rows: Int) -> ir.Value | None:
    """Whether tiles multiply ``rows`` rows, None where there are none. The block then has to hold
    A as s8."""
    return code.cmp(">=", rows, AMX_ROWS) if amx.has_int8(code.target) else None


def begin(code: Code, rows: Int) -> None:
    """Before the first ``emit_rows`` of a kernel; ``rows``: the most that one of them gets."""
    tiles = by_tiles(code, rows)
    if tiles is not None:
        with code.when(tiles):
            amx.configure(code)


def end(code: Code, rows: Int) -> None:
    """After the last ``emit_rows``, with the ``rows`` of ``begin``."""
    tiles = by_tiles(code, rows)
    if tiles is not None:
        with code.when(tiles):
            amx.release(code)


def emit_rows(code: Code, p: Product, rows: Int, first: Int, last: Int) -> None:
    """All of ``rows`` > 0 rows by the panels [first, last)."""
    d = int8.dots(code.target)
    tiles = by_tiles(code, rows)
    if tiles is None:
        _dots(code, d, p, rows, first, last, most_rows(d))
        return
    with code.either(tiles) as (many, few):
        with many:
            emit_tiles(code, p, rows, first, last)
        with few:
            _dots(code, d, p, rows, first, last, AMX_ROWS - 1)


def _dots(code: Code, d: Dots, p: Product, rows: Int, first: Int, last: Int, most: int) -> None:
    """Up to ``most`` rows at a time, few of them by several panels."""
    with code.loop(0, rows, most) as start:
        size = code.min(code.sub(rows, start.index), most)
        wide: Int = 1
        for r in range(most, 0, -1):
            panels = wide_panels(d, r)
            if panels > 1:
                wide = code.select(code.cmp("<=", size, r), panels, wide)
        edge = code.add(first, code.mul(code.div(code.sub(last, first), wide), wide))
        for begin_, end_, step in ((first, edge, wide), (edge, last, 1)):
            if begin_ is edge and isinstance(wide, int):
                continue
            _dot_panels(code, d, p, (start.index, size, most), (begin_, end_, step))


def _dot_panels(
    code: Code, d: Dots, p: Product, block: tuple[Int, Int, int], panels: tuple[Int, Int, Int]
) -> None:
    start, size, most = block
    first, last, step = panels
    a = line(code, d, p.a, start, p.k)
    between = code.mul(size, PANEL)
    with code.loop(0, code.div(code.sub(last, first), step)) as turn:
        panel = code.add(first, code.mul(turn.index, step))
        b = p.panel(code, panel)
        begins = _begins(code, d, p, panel, step)

        def call(r: int) -> None:
            kernel = dot_kernel(code, d, r, 1 if isinstance(step, int) else wide_panels(d, r))
            args = [a, b, p.steps, p.panel_bytes, begins, p.sums(code), PANEL, between]
            code.b.call(kernel, [i64(x) for x in args])

        code.switch(size, most, call)
        with code.loop(0, step) as part:
            _finish(code, p, (start, size, most), code.add(panel, part.index), part.index)


def _begins(code: Code, d: Dots, p: Product, panel: Int, panels: Int) -> ir.Value:
    """i32 [panels][32] that sums begin with: what the shift of A adds to them, taken back."""
    shift = d.shift(True)
    with code.loop(0, panels) as part:
        b = p.panel(code, code.add(panel, part.index))
        source = code.at(b, p.steps * STEP_BYTES, I8)
        for v in range(0, PANEL, d.lanes):
            value = zeros(ir.VectorType(I32, d.lanes))
            if shift:
                taken = code.vload(code.at(source, v, I32), d.lanes, element=I32)
                value = code.b.mul(taken, code.splat(-shift, d.lanes, I32))
            place = code.add(code.mul(part.index, PANEL), v)
            code.vstore(value, code.at(p.begins(code), place, I32))
    return p.begins(code)


def _finish(code: Code, p: Product, block: tuple[Int, Int, int], panel: Int, part: Int) -> None:
    """Sums of rows by the panel number ``part`` of those in scratch, to C."""
    start, size, most = block
    b = code.at(p.panel(code, panel), p.steps * STEP_BYTES, I8)
    place = code.mul(part, code.mul(size, PANEL))
    tails = None
    if p.tail is not None:
        tails = p.tails(code)
        left = code.at(p.tail, code.mul(start, 2 * TAIL), I8)
        right = code.at(b, 2 * 4 * PANEL, I8)
        args = [left, right, tails]
        code.switch(size, most, lambda r: code.b.call(_tail_kernel(code, r), args))
    element = formats.ELEMENT[p.finish.stored]
    column = code.mul(panel, PANEL)
    lines = Lines(
        finish=p.finish,
        sums=code.at(p.sums(code), place, I32),
        tails=tails,
        out=code.at(code.at(p.c, code.mul(start, p.ldc), element), column, element),
        scales=code.at(p.scales, start),
        columns=code.at(b, PANEL, I32),
        row=code.add(p.row, start),
        column=column,
        exist=code.sub(p.finish.n, column),
        ldc=p.ldc,
        operands=p.operands,
    )
    lines.emit(code, 0, size)


def _tail_kernel(code: Code, rows: int) -> ir.Function:
    """``void (a, b, c)``: c f32 [rows][32] = A B, A bf16 [rows][32], B bf16 [16][32][2], as f32
    products and sums: few rows do not need faster ones."""
    name = f"tilewright_int8_tail_{rows}"
    found = code.module.globals.get(name)
    if found is not None:
        return found
    fn, code = internal(code, _TAILS, name)
    a, b, c = fn.args
    lanes = code.target.lanes_f32
    kind = code.vector(lanes)

    def halves(pairs: ir.Value) -> tuple[ir.Value, ir.Value]:
        """The even and the odd one of pairs of bf16, as f32."""
        some = pairs.type
        vector = isinstance(some, ir.VectorType)
        up, clear = (ir.Constant(some, [x] * some.count if vector else x) for x in (16, -(1 << 16)))
        to = kind if vector else F32
        even = code.b.bitcast(code.b.shl(pairs, up), to)
        return even, code.b.bitcast(code.b.and_(pairs, clear), to)

    with code.loop(0, PANEL, lanes) as column:
        with code.loop(0, TAIL // 2, 1, [zeros(kind)] * (2 * rows)) as pair:
            place = code.add(code.mul(pair.index, PANEL), column.index)
            right = halves(code.vload(code.at(b, place, I32), lanes, element=I32))
            totals = []
            for r in range(rows):
                at = code.at(a, code.add(pair.index, r * TAIL // 2), I32)
                for i, left in enumerate(halves(code.load(at, I32))):
                    total = pair.carried[2 * r + i]
                    totals.append(code.fma(code.splat(left, lanes), right[i], total))
            pair.next = totals
        for r in range(rows):
            total = code.b.fadd(*pair.carried[2 * r : 2 * r + 2])
            code.vstore(total, code.at(c, code.add(column.index, r * PANEL)))
    code.b.ret_void()
    return fn

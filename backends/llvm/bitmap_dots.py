"""Few rows by a panel of bitmap_lines: each line is expanded in a register and meets all rows.

q = 1: A is f32 as it lies in memory; 2: bf16 of bf16_block; 4: u8 of int8_block, whose sums begin
with what the shift of A adds to them, taken back.
"""

from __future__ import annotations

from collections.abc import Sequence

from llvmlite import ir

from tilewright.backends.llvm import bf16
from tilewright.backends.llvm.amx import ROW_BYTES, TILE_BYTES
from tilewright.backends.llvm.bf16_microkernel import internal
from tilewright.backends.llvm.bitmap_lines import (
    AHEAD,
    CELL,
    LANES,
    LINE,
    PER_GROUP,
    bitmap,
    expand,
    values_of,
)
from tilewright.backends.llvm.builder import F32, I8, I32, I64, PTR, VOID, Code, Int, i64, zeros
from tilewright.backends.llvm.microkernel import CHAIN, PANEL

FEW = 4
"""Most rows: for more, expanding a panel first takes little longer, without as much code again."""

_GROUPS = 16
"""Groups of a row in one step of a block."""

_WIDE = ir.VectorType(I32, LANES)
_BYTES = ir.VectorType(I8, 4 * LANES)


def wide_panels(rows: int) -> int:
    """Panels at a time: one stream of memory alone has 10 GB/s where four have 16."""
    return 4 if rows <= 3 else 2


def emit_dots(
    code: Code,
    q: int,
    rows: int,
    a: tuple[ir.Value, Int],
    panels: Sequence[tuple[ir.Value, ir.Value]],
    groups: int,
    out: ir.Value,
) -> None:
    """Sums of ``rows`` rows, ``a`` and elements from row to row (q = 1), by panels, each its cells
    and (q = 4) column sums: f32 or i32 [panels][rows][32] to ``out``."""
    base, stride = a
    args = [base, i64(code.mul(stride, 4)), i64(groups), out]
    both = [pointer for panel in panels for pointer in panel]
    code.b.call(_kernel(code, q, rows, len(panels)), [*args, *both])


def _kernel(code: Code, q: int, rows: int, panels: int) -> ir.Function:
    name = f"tilewright_bitmap_dots_{q}x{rows}x{panels}"
    found = code.module.globals.get(name)
    if found is not None:
        return found
    kind = ir.FunctionType(VOID, [PTR, I64, I64, PTR, *[PTR] * (2 * panels)])
    fn, code = internal(code, kind, name)
    a, stride, groups, out = fn.args[:4]
    starts, sums = fn.args[4::2], fn.args[5::2]
    for pointer in (0, 3):
        fn.args[pointer].add_attribute("noalias")
    element = I32 if q == 4 else F32
    count = PER_GROUP * rows
    # f32 sums are chains as those of the f32 micro-kernel.
    length: Int = CHAIN if q == 1 else code.max(groups, 1)
    with code.loop(0, groups, 1 << 62 if q > 1 else CHAIN, starts) as chain:
        first = code.cmp("==", chain.index, 0)
        end = code.min(code.add(chain.index, length), groups)
        whole = code.sub(end, code.rem(code.sub(end, chain.index), CELL))
        begin = [value for own in sums for value in _begin(code, q, rows, own)]
        with code.loop(chain.index, whole, CELL, [*chain.carried, *begin]) as loop:
            acc = list(loop.carried[panels:])
            cells = loop.carried[:panels]
            ends = [values_of(code, q, cell) for cell in cells]
            for at in ends:
                for line in range(CELL * PER_GROUP // 2 + 1):
                    code.prefetch(code.at(at, AHEAD + LINE * line, I8))
            for g in range(CELL):
                lefts = _lefts(code, q, rows, (a, stride), loop.index, g)
                for p, cell in enumerate(cells):
                    part = slice(p * count, (p + 1) * count)
                    ends[p], acc[part] = _group(
                        code, q, lefts, (cell, ends[p]), g * PER_GROUP, acc[part]
                    )
            loop.next = [*ends, *acc]
        cells = loop.carried[:panels]
        ends = [values_of(code, q, cell) for cell in cells]
        with code.loop(whole, end, 1, [*ends, *loop.carried[panels:]]) as loop:
            ends, acc = list(loop.carried[:panels]), list(loop.carried[panels:])
            lefts = _lefts(code, q, rows, (a, stride), loop.index, 0)
            line = code.mul(code.sub(loop.index, whole), PER_GROUP)
            for p, cell in enumerate(cells):
                part = slice(p * count, (p + 1) * count)
                ends[p], acc[part] = _group(code, q, lefts, (cell, ends[p]), line, acc[part])
            loop.next = [*ends, *acc]
        chain.next = cells
        totals = loop.carried[panels:]
        targets = [code.at(out, LANES * i, element) for i in range(len(totals))]
        with code.either(first) as (new, more):
            with new:
                for target, total in zip(targets, totals, strict=True):
                    code.vstore(total, target)
            with more:
                for target, total in zip(targets, totals, strict=True):
                    held = code.vload(target, LANES, element=element)
                    add = code.b.add if q == 4 else code.b.fadd
                    code.vstore(add(held, total), target)
    code.b.ret_void()
    return fn


def _begin(code: Code, q: int, rows: int, sums: ir.Value) -> list[ir.Value]:
    if q != 4:
        return [zeros(code.vector(LANES))] * (PER_GROUP * rows)
    shift = ir.Constant(_WIDE, [-128] * LANES)
    taken = [
        code.b.mul(code.vload(code.at(sums, LANES * v, I32), LANES, element=I32), shift)
        for v in range(PER_GROUP)
    ]
    return taken * rows


def _lefts(
    code: Code, q: int, rows: int, a: tuple[ir.Value, ir.Value], start: ir.Value, further: int
) -> list[ir.Value]:
    """Of each row the group number ``start`` + ``further``, in all lanes."""
    base, stride = a
    if q == 1:
        left = code.at(base, code.mul(code.add(start, further), 4), I8)
    else:
        step, within = code.div(start, _GROUPS), code.rem(start, _GROUPS)
        left = code.at(base, code.mul(step, TILE_BYTES), I8)
        left = code.at(left, code.mul(code.add(within, further), 4), I8)
        stride = i64(ROW_BYTES)
    kind = F32 if q == 1 else I32
    return [
        code.splat(code.load(code.at(left, code.mul(stride, r), I8), kind), LANES)
        for r in range(rows)
    ]


def _group(
    code: Code,
    q: int,
    lefts: Sequence[ir.Value],
    b: tuple[ir.Value, ir.Value],
    line: Int,
    acc: Sequence[ir.Value],
) -> tuple[ir.Value, list[ir.Value]]:
    """The lines of one group, added to ``acc``: where the next values begin, and the sums. b: the
    cell and where values are; line: the first of the group in its cell."""
    cell, at = b
    totals = list(acc)
    for v in range(PER_GROUP):
        value, at = expand(code, q, bitmap(code, q, cell, code.add(line, v)), at)
        for r, left in enumerate(lefts):
            i = r * PER_GROUP + v
            totals[i] = _multiply(code, q, totals[i], left, value)
    return at, totals


def _multiply(code: Code, q: int, total: ir.Value, left: ir.Value, line: ir.Value) -> ir.Value:
    if q == 1:
        return code.fma(left, line, total)
    wide = code.b.bitcast(line, _WIDE)
    if q == 2:
        return bf16.dot(code, total, left, wide)
    kind = ir.FunctionType(_WIDE, [_WIDE, _BYTES, _BYTES])
    fn = code.declare("llvm.x86.avx512.vpdpbusd.512", kind)
    return code.b.call(fn, [total, code.b.bitcast(left, _BYTES), line])


def row_bytes() -> int:
    """Of the sums of one row."""
    return 4 * PANEL

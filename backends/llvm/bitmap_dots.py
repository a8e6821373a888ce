"""Few rows by a panel of bitmap_lines: each line is expanded in a register and meets all rows.

q = 1: A is f32 as it lies in memory; 2: bf16 of bf16_block; 4: u8 of int8_block, whose sums begin
with what the shift of A adds to them, taken back.
"""

from __future__ import annotations

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

FEW = 7
"""Most rows: their sums, two vectors each, are half of the registers, and tiles of 8-bit integers
begin with more."""

_GROUPS = 16
"""Groups of a row in one step of a block."""

_KIND = ir.FunctionType(VOID, [PTR, I64, PTR, PTR, I64, PTR])
_WIDE = ir.VectorType(I32, LANES)
_BYTES = ir.VectorType(I8, 4 * LANES)


def emit_dots(
    code: Code,
    q: int,
    rows: int,
    a: tuple[ir.Value, Int],
    panel: tuple[ir.Value, ir.Value],
    groups: int,
    out: ir.Value,
) -> None:
    """Sums of ``rows`` rows, ``a`` and elements from row to row (q = 1), by a panel, its cells and
    (q = 4) column sums: f32 or i32 [rows][32] to ``out``."""
    cells, sums = panel
    base, stride = a
    args = [base, i64(code.mul(stride, 4)), cells, sums, i64(groups), out]
    code.b.call(_kernel(code, q, rows), args)


def _kernel(code: Code, q: int, rows: int) -> ir.Function:
    name = f"tilewright_bitmap_dots_{q}x{rows}"
    found = code.module.globals.get(name)
    if found is not None:
        return found
    fn, code = internal(code, _KIND, name)
    a, stride, cells, sums, groups, out = fn.args
    for pointer in (0, 2, 5):
        fn.args[pointer].add_attribute("noalias")
    element = I32 if q == 4 else F32
    # f32 sums are chains as those of the f32 micro-kernel.
    length: Int = CHAIN if q == 1 else code.max(groups, 1)
    with code.loop(0, groups, 1 << 62 if q > 1 else CHAIN, [cells]) as chain:
        first = code.cmp("==", chain.index, 0)
        end = code.min(code.add(chain.index, length), groups)
        whole = code.sub(end, code.rem(code.sub(end, chain.index), CELL))
        carried = [chain.carried[0], *_begin(code, q, rows, sums)]
        with code.loop(chain.index, whole, CELL, carried) as loop:
            cell, acc = loop.carried[0], list(loop.carried[1:])
            at = values_of(code, q, cell)
            for line in range(CELL * PER_GROUP // 2 + 1):
                code.prefetch(code.at(at, AHEAD + LINE * line, I8))
            for g in range(CELL):
                at = _group(code, q, rows, (a, stride), (cell, at), (loop.index, g), acc)
            loop.next = [at, *acc]
        cell = loop.carried[0]
        carried = [values_of(code, q, cell), *loop.carried[1:]]
        with code.loop(whole, end, 1, carried) as loop:
            at, acc = loop.carried[0], list(loop.carried[1:])
            line = code.mul(code.sub(loop.index, whole), PER_GROUP)
            at = _group(code, q, rows, (a, stride), (cell, at), (loop.index, 0), acc, line)
            loop.next = [at, *acc]
        carried = [cell, *loop.carried[1:]]
        chain.next = [carried[0]]
        targets = [code.at(out, LANES * i, element) for i in range(2 * rows)]
        with code.either(first) as (new, more):
            with new:
                for target, total in zip(targets, carried[1:], strict=True):
                    code.vstore(total, target)
            with more:
                for target, total in zip(targets, carried[1:], strict=True):
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


def _group(
    code: Code,
    q: int,
    rows: int,
    a: tuple[ir.Value, ir.Value],
    b: tuple[ir.Value, ir.Value],
    place: tuple[ir.Value, int],
    acc: list[ir.Value],
    line: Int | None = None,
) -> ir.Value:
    """The lines of one group, added to ``acc`` in place; where the next values begin. b: the cell
    and where values are; line: the first of the group in its cell."""
    base, stride = a
    cell, at = b
    start, further = place
    group = code.add(start, further)
    lines = []
    for v in range(PER_GROUP):
        number = code.add(further * PER_GROUP if line is None else line, v)
        value, at = expand(code, q, bitmap(code, q, cell, number), at)
        lines.append(value)
    if q == 1:
        left = code.at(base, code.mul(group, 4), I8)
    else:
        step, within = code.div(start, _GROUPS), code.rem(start, _GROUPS)
        left = code.at(base, code.mul(step, TILE_BYTES), I8)
        left = code.at(left, code.mul(code.add(within, further), 4), I8)
        stride = i64(ROW_BYTES)
    for r in range(rows):
        row = code.at(left, code.mul(stride, r), I8)
        one = code.load(row, F32 if q == 1 else I32)
        many = code.splat(one, LANES)
        for v, value in enumerate(lines):
            i = r * PER_GROUP + v
            acc[i] = _multiply(code, q, acc[i], many, value)
    return at


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

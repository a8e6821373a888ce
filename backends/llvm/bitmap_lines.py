"""Lines of 64 bytes of which a bitmap says what is stored: 16 columns by q k of 4 / q bytes each.

q = 1: f32, 2: bf16, 4: s8. A line has a bitmap of 16 q bits, its first element in the lowest one.
The lines are those of panels of 32 columns as products read them: of each group of q k two. Four
groups are a cell: their eight bitmaps, then all their elements that are not zero, in the order of
their bits; the next cell follows without a gap, so that a panel is one stream.

AVX-512 expands a line in one instruction; words and bytes from VBMI2 on. Others deposit its bits
eight bytes at a time.
"""

from __future__ import annotations

from llvmlite import ir

from tilewright.backends.llvm.bf16_microkernel import internal
from tilewright.backends.llvm.builder import F32, I1, I8, I64, PTR, VOID, Code, Int, i64, zeros
from tilewright.backends.llvm.microkernel import PANEL
from tilewright.backends.target import Target

LANES = 16
"""Columns of a line."""

LINE = 64
"""Bytes of a line."""

PER_GROUP = PANEL // LANES
"""Lines of q k."""

CELL = 4
"""Groups whose bitmaps lie together."""

AHEAD = 2048
"""How far before its use a panel is asked for."""

OVERRUN = 8
"""Bytes behind the last element that may be read."""

_I16 = ir.IntType(16)
_ELEMENT = {1: F32, 2: _I16, 4: I8}
_SUFFIX = {1: "f32", 2: "i16", 4: "i8"}
_EXPAND = ir.FunctionType(VOID, [PTR, I64, PTR])


def expands(target: Target, q: int) -> bool:
    """Whether a line is expanded in one instruction."""
    return ("avx512f" if q == 1 else "avx512vbmi2") in target.all_features


def serves(target: Target) -> bool:
    """Whether ``target`` has one of the two ways."""
    return target.triple.startswith("x86_64") and "bmi2" in target.all_features


def mask_bytes(q: int) -> int:
    """Of the bitmap of a line."""
    return LANES * q // 8


def values_of(code: Code, q: int, cell: ir.Value) -> ir.Value:
    """Where the values of a cell begin."""
    return code.at(cell, CELL * PER_GROUP * mask_bytes(q), I8)


def bitmap(code: Code, q: int, cell: ir.Value, line: Int) -> ir.Value:
    """Of a line of a cell, as an integer."""
    place = code.at(cell, code.mul(line, mask_bytes(q)), I8)
    found = code.b.load(place, typ=ir.IntType(LANES * q))
    found.align = 1
    return found


def expand(code: Code, q: int, mask: ir.Value, values: ir.Value) -> tuple[ir.Value, ir.Value]:
    """A line as a vector of 16 q elements, and where the next one's values begin; where
    ``expands``."""
    bits = LANES * q
    typ = ir.VectorType(_ELEMENT[q], bits)
    kinds = [PTR, ir.VectorType(I1, bits), typ]
    name = f"llvm.masked.expandload.v{bits}{_SUFFIX[q]}"
    fn = code.declare(name, ir.FunctionType(typ, kinds))
    line = code.b.call(fn, [values, code.b.bitcast(mask, kinds[1]), zeros(typ)])
    return line, code.at(values, _ones(code, mask), _ELEMENT[q])


def emit_cells(code: Code, q: int, cell: ir.Value, count: Int, out: ir.Value) -> None:
    """``count`` cells from ``cell`` on as the lines that they are, to ``out``."""
    fn = _expander(code, q)
    code.b.call(fn, [cell, i64(count), out])


def _expander(code: Code, q: int) -> ir.Function:
    name = f"tilewright_bitmap_cells_{q}"
    found = code.module.globals.get(name)
    if found is not None:
        return found
    fn, code = internal(code, _EXPAND, name)
    first, count, out = fn.args
    with code.loop(0, count, 1, [first]) as cell:
        at = values_of(code, q, cell.carried[0])
        target = code.at(out, code.mul(cell.index, CELL * PER_GROUP * LINE), I8)
        code.prefetch(code.at(at, AHEAD, I8))
        code.prefetch(code.at(at, AHEAD + LINE, I8))
        for line in range(CELL * PER_GROUP):
            mask = bitmap(code, q, cell.carried[0], line)
            place = code.at(target, line * LINE, I8)
            if expands(code.target, q):
                value, at = expand(code, q, mask, at)
                code.vstore(value, place)
            else:
                at = _deposit(code, q, mask, at, place)
        cell.next = [at]
    code.b.ret_void()
    return fn


def _deposit(code: Code, q: int, mask: ir.Value, at: ir.Value, out: ir.Value) -> ir.Value:
    """A line in eight words; where the next one's values begin."""
    size, each = 4 // q, 2 * q
    wide = code.b.zext(mask, I64) if q < 4 else mask
    ones = ir.Constant(I64, sum(1 << (8 * size * i) for i in range(each)))
    whole = ir.Constant(I64, (1 << (8 * size)) - 1)
    fn = code.declare("llvm.x86.bmi.pdep.64", ir.FunctionType(I64, [I64, I64]))
    for word in range(LINE // 8):
        part = code.b.lshr(wide, ir.Constant(I64, word * each))
        part = code.b.and_(part, ir.Constant(I64, (1 << each) - 1))
        places = code.b.mul(code.b.call(fn, [part, ones]), whole)
        taken = code.b.load(at, typ=I64)
        taken.align = 1
        code.store(code.b.call(fn, [taken, places]), code.at(out, 8 * word, I8))
        at = code.at(at, code.mul(_ones(code, part), size), I8)
    return at


def _ones(code: Code, bits: ir.Value) -> ir.Value:
    """How many bits are set, i64."""
    kind = bits.type
    fn = code.declare(f"llvm.ctpop.i{kind.width}", ir.FunctionType(kind, [kind]))
    count = code.b.call(fn, [bits])
    return count if kind.width == 64 else code.b.zext(count, I64)

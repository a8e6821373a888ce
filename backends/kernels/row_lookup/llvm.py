"""LLVM emitter of a lookup: row after row, vectors of elements, single ones at the end of a row."""

from __future__ import annotations

from collections.abc import Callable

from llvmlite import ir

from tilewright.backends.kernels.row_lookup import panels
from tilewright.backends.kernels.row_lookup.spec import (
    GROUP,
    PANELS,
    ROWS,
    RowLookupSpec,
    half,
)
from tilewright.backends.llvm.builder import F32, I8, I32, I64, Code, Int, i64
from tilewright.backends.llvm.frame import Frame
from tilewright.backends.llvm.grouped_codes import PIECE, cleaned, lined
from tilewright.backends.llvm.microkernel import PANEL
from tilewright.backends.target import Target

I16 = ir.IntType(16)
OUT_OF_RANGE = 1
"""Status of a launch with an index that is no row."""

Piece = Callable[[Int, int], None]
"""Makes elements at, at + 1, ... of a row, as many as lanes."""


def emit(module: ir.Module, spec: RowLookupSpec, target: Target, name: str) -> ir.Function:
    """Add the kernel ``name`` for ``spec`` to ``module``."""
    frame = Frame.open(module, target, name)
    code, count = frame.code, frame.dim(0)
    indices, table, out = (frame.pointer(i) for i in range(3))
    with code.loop(frame.begin, frame.end) as unit:
        first = code.mul(unit.index, ROWS)
        with code.loop(first, code.min(code.add(first, ROWS), count)) as row:
            number = _checked(code, spec, indices, row.index)
            _row(code, spec, table, number, code.at(out, code.mul(row.index, spec.width)))
    return frame.close()


def _checked(code: Code, spec: RowLookupSpec, indices: ir.Value, at: Int) -> ir.Value:
    """The row that an index means; returns from the kernel if there is none."""
    kind = I64 if spec.index == "i64" else I32
    index = code.load(code.at(indices, at, kind), kind)
    if kind != I64:
        index = code.b.sext(index, I64)
    number = code.select(code.cmp("<", index, 0), code.b.add(index, i64(spec.rows)), index)
    with code.when(code.b.icmp_unsigned(">=", number, i64(spec.rows))):
        code.b.ret(ir.Constant(I32, OUT_OF_RANGE))
        code.b.position_at_start(code.b.append_basic_block("unreachable"))
    return number


def _row(code: Code, spec: RowLookupSpec, table: ir.Value, number: Int, out: ir.Value) -> None:
    if spec.tied:
        _words(code, spec, table, number, out)
        return
    if spec.kind == PANELS:
        panel = code.mul(code.div(number, PANEL), PANEL * spec.width)
        base = code.at(table, code.add(panel, code.rem(number, PANEL)))
        with code.loop(0, spec.width) as d:
            value = code.load(code.at(base, code.mul(d.index, PANEL)))
            code.store(value, code.at(out, d.index))
        return
    base = code.at(table, code.mul(number, spec.row_bytes), I8)
    if spec.kind == "w4-g64":
        _nibbles(code, spec, base, out)
    else:
        _numbers(code, spec, base, out)


def _numbers(code: Code, spec: RowLookupSpec, base: ir.Value, out: ir.Value) -> None:
    """Elements of 4, 2 or 1 bytes."""
    scale = code.load(base) if spec.kind == "w8-sym" else None
    codes = code.at(base, 4, I8)

    def piece(at: Int, lanes: int) -> None:
        if scale is not None:
            value = code.b.sext(_some(code, code.at(codes, at, I8), lanes, I8), _many(I32, lanes))
            value = code.b.sitofp(value, _many(F32, lanes))
            value = code.b.fmul(value, _filled(code, scale, lanes))
        elif spec.kind == "bf16":
            bits = _some(code, code.at(base, at, I16), lanes, I16)
            wide = code.b.zext(bits, _many(I32, lanes))
            shifted = code.b.shl(wide, _filled(code, ir.Constant(I32, 16), lanes))
            value = code.b.bitcast(shifted, _many(F32, lanes))
        else:
            value = _some(code, code.at(base, at), lanes, F32)
        code.store(value, code.at(out, at))

    _pieces(code, spec.width, piece)


def _nibbles(code: Code, spec: RowLookupSpec, base: ir.Value, out: ir.Value) -> None:
    """Groups of 4-bit codes. All whole groups lie alike."""
    first = 3 * spec.groups

    def group(number: Int, size: int) -> None:
        scale = _half(code, code.load(code.at(base, number, I16), I16))
        place = code.at(base, code.add(number, 2 * spec.groups), I8)
        zero = code.b.zext(code.load(place, I8), I32)
        codes = code.at(base, code.add(first, code.mul(number, half(GROUP))), I8)
        target = code.at(out, code.mul(number, GROUP))

        def store(nibbles: ir.Value, at: Int, lanes: int) -> None:
            wide = code.b.zext(nibbles, _many(I32, lanes))
            value = code.b.sitofp(code.b.sub(wide, _filled(code, zero, lanes)), _many(F32, lanes))
            code.store(code.b.fmul(value, _filled(code, scale, lanes)), code.at(target, at))

        def piece(at: Int, lanes: int) -> None:
            both = _some(code, code.at(codes, at, I8), lanes, I8)
            store(code.b.and_(both, _filled(code, ir.Constant(I8, 15), lanes)), at, lanes)
            high = code.b.lshr(both, _filled(code, ir.Constant(I8, 4), lanes))
            store(high, code.add(at, half(size)), lanes)

        def last(at: Int, lanes: int) -> None:
            low = code.b.and_(code.load(code.at(codes, at, I8), I8), ir.Constant(I8, 15))
            store(low, at, lanes)

        _pieces(code, size // 2, piece)
        if size % 2:
            last(size // 2, 1)

    whole = spec.width // GROUP
    with code.loop(0, whole) as g:
        group(g.index, GROUP)
    if spec.width % GROUP:
        group(whole, spec.width % GROUP)


def _words(code: Code, spec: RowLookupSpec, table: ir.Value, number: Int, out: ir.Value) -> None:
    """Words of a panel, group by group. All whole groups lie alike."""
    rows = panels.layout(spec.tied, spec.width, spec.rows)
    panel = code.at(table, code.mul(code.div(number, PANEL), rows.panel_bytes), I8)
    lane = code.rem(number, PANEL)

    def group(at: Int, size: int) -> None:
        own = code.at(panel, code.mul(at, rows.group_bytes), I8)
        scales = code.at(own, rows.scales, I8)
        if rows.signed:
            scale = code.load(code.at(scales, lane))
        else:
            scale = _half(code, code.load(code.at(scales, lane, I16), I16))
        zero: ir.Value = ir.Constant(I32, rows.middle)
        if rows.zeros >= 0:
            place = code.add(rows.zeros, code.add(code.mul(at, PANEL), lane))
            zero = code.b.zext(code.load(code.at(panel, place, I8), I8), I32)
        target = code.at(out, code.mul(at, rows.group))

        def store(codes: ir.Value, place: Int, lanes: int) -> None:
            widen = code.b.sext if rows.signed else code.b.zext
            wide = widen(codes, _many(I32, lanes))
            steps = code.b.sub(wide, _filled(code, zero, lanes))
            value = code.b.sitofp(steps, _many(F32, lanes))
            code.store(code.b.fmul(value, _filled(code, scale, lanes)), code.at(target, place))

        def piece(index: Int, count: int) -> None:
            words = code.mul(lane, panels.WORD)
            words = code.at(own, code.add(code.mul(index, rows.bits * panels.STEP), words), I8)
            quads = _quads(code, rows.bits, words)[: -(-count // panels.WORD)]
            for quad, codes in enumerate(quads):
                first = code.add(code.mul(index, PIECE), panels.WORD * quad)
                left = count - panels.WORD * quad
                if left >= panels.WORD:
                    store(codes, first, panels.WORD)
                    continue
                for j in range(left):
                    single = code.b.extract_element(codes, ir.Constant(I32, j))
                    store(single, code.add(first, j), 1)

        with code.loop(0, size // PIECE) as whole:
            piece(whole.index, PIECE)
        if size % PIECE:
            piece(size // PIECE, size % PIECE)

    whole = spec.width // rows.group
    with code.loop(0, whole) as g:
        group(g.index, rows.group)
    if spec.width % rows.group:
        group(whole, spec.width % rows.group)


def _quads(code: Code, bits: int, words: ir.Value) -> list[ir.Value]:
    """Codes of a piece, <4 x i8> for each quad. words: those of a row, STEP bytes apart."""

    def line(number: int) -> ir.Value:
        return code.load(code.at(words, number * panels.STEP, I8), ir.VectorType(I32, 1))

    found = [cleaned(code, field, bits, low=True) for field in lined(code, bits, line)]
    return [code.b.bitcast(quad, _many(I8, panels.WORD)) for quad in found]


def _half(code: Code, bits: ir.Value) -> ir.Value:
    """The f32 of a normal f16 that is not negative, or of 0: no instruction, for every target."""
    wide = code.b.shl(code.b.zext(bits, I32), ir.Constant(I32, 13))
    normal = code.b.add(wide, ir.Constant(I32, (127 - 15) << 23))
    zero = code.b.icmp_unsigned("==", bits, ir.Constant(I16, 0))
    return code.b.bitcast(code.b.select(zero, wide, normal), F32)


def _pieces(code: Code, count: int, piece: Piece) -> None:
    """``count`` elements in vectors, then one by one."""
    lanes = code.target.lanes_f32
    full = count // lanes * lanes
    with code.loop(0, full, lanes) as chunk:
        piece(chunk.index, lanes)
    with code.loop(full, count) as single:
        piece(single.index, 1)


def _many(element: ir.Type, lanes: int) -> ir.Type:
    return element if lanes == 1 else ir.VectorType(element, lanes)


def _some(code: Code, place: ir.Value, lanes: int, element: ir.Type) -> ir.Value:
    return code.load(place, _many(element, lanes))


def _filled(code: Code, value: ir.Value, lanes: int) -> ir.Value:
    return value if lanes == 1 else code.splat(value, lanes)

"""A row by bit planes: byte shuffles look up the sums of four activations, nothing is multiplied.

For the four 8-bit activations that a nibble of codes belongs to, a table has all 16 sums of them
with signs, T-MAC's (Wei et al., arXiv 2407.00088), but exact: a sum of up to 508 is kept as T = l +
32 h, l in 0..31, h in -16..15, in two tables of bytes. Eight lookups of each add up in a byte (8 31
< 256, 8 16 = 128); then they are put together in 16 bits, which 258 k cannot overflow (127 a k).

A vector of 64 bytes holds two lines of codes, whose tables lie side by side; what they find is
added at the end of a span.
"""

from __future__ import annotations

from dataclasses import dataclass

from llvmlite import ir

from tilewright.backends.llvm import grouped_rows
from tilewright.backends.llvm.bf16_microkernel import internal
from tilewright.backends.llvm.builder import I8, I32, PTR, VOID, Code, Int
from tilewright.backends.llvm.builder import zeros as none
from tilewright.backends.llvm.grouped_codes import Panel
from tilewright.backends.llvm.microkernel import PANEL
from tilewright.backends.llvm.plane_codes import BLOCK, LINE, PLANE, PlanePanel, middle, scales
from tilewright.backends.target import Target

MOST_SPAN = 256
"""k of a span at most: sums fit 16 bits."""

AHEAD = 1024
"""Bytes that codes are asked for before their use."""

_LOOKUPS = 8
"""Lookups that add up in a byte."""

_LOW = 5
"""Bits of the lower table."""

_SHUFFLE = {32: "avx2.pshuf.b", 64: "avx512.pshuf.b.512"}
_I16 = ir.IntType(16)
_KIND = ir.FunctionType(VOID, [PTR, PTR, PTR])


def rows_of(panel: PlanePanel) -> Panel:
    """Rows in 8-bit codes by span, as grouped_rows makes them."""
    return Panel(panel.k, 8, panel.span, True)


def row_bytes(panel: PlanePanel) -> int:
    """Room of a prepared row: codes and factors, then its tables, 16 bytes for each k."""
    return rows_of(panel).row_bytes + 16 * panel.depth


def panels_at_once(target: Target, bits: int) -> int:
    """As many as registers hold sums of."""
    return max(1, (6 if target.vector_regs >= 32 else 2) // bits)


def emit_tables(
    code: Code, panel: PlanePanel, a: ir.Value, lda: Int, rows: Int, out: ir.Value
) -> None:
    """Prepared rows one after another at ``out``."""
    eight, size = rows_of(panel), row_bytes(panel)
    width = _width(code.target)
    side = width // LINE
    kind = ir.VectorType(_I16, 16)
    with code.loop(0, rows) as row:
        base = code.at(out, code.mul(row.index, size), I8)
        grouped_rows.emit_codes(code, eight, code.at(a, code.mul(row.index, lda)), lda, 1, base)
        tables = code.at(base, eight.row_bytes, I8)
        with code.loop(0, panel.depth // 8) as line:
            vector, part = code.div(line.index, side), code.rem(line.index, side)
            place = code.add(code.mul(vector, 4 * width), code.mul(part, LINE))
            for nibble in range(2):
                total = none(kind)
                for i in range(4):
                    at = code.at(base, code.add(code.mul(line.index, 8), 4 * nibble + i), I8)
                    one = code.splat(code.b.sext(code.load(at, I8), _I16), 16)
                    sign = ir.Constant(kind, [1 if c >> i & 1 else -1 for c in range(16)])
                    total = code.b.add(total, code.b.mul(one, sign))
                low = code.b.and_(total, ir.Constant(kind, [2**_LOW - 1] * 16))
                high = code.b.ashr(total, ir.Constant(kind, [_LOW] * 16))
                for j, value in enumerate((low, high)):
                    table = code.b.trunc(value, ir.VectorType(I8, 16))
                    target = code.at(tables, code.add(place, (2 * nibble + j) * width), I8)
                    for copy in (0, 16):
                        code.vstore(table, code.at(target, copy, I8))


@dataclass
class _Sums:
    """Of one plane of one panel: bytes of both tables, even and odd columns in 16 bits."""

    low: ir.Value
    high: ir.Value
    even: ir.Value
    odd: ir.Value


def dot_kernel(code: Code, panel: PlanePanel, panels: int) -> ir.Function:
    """``void (prepared row, panels, out)``: out [panels][32] f32."""
    name = f"tilewright_planes_{panel.k}_{panel.bits}_{panel.group}_{panel.kind}_{panels}"
    found = code.module.globals.get(name)
    if found is not None:
        return found
    fn, code = internal(code, _KIND, name)
    row, b, out = fn.args
    lanes, width = code.target.lanes_f32, _width(code.target)
    eight = rows_of(panel)
    tables = code.at(row, eight.row_bytes, I8)
    clear = none(code.vector(lanes))
    for at in range(0, panels * PANEL, lanes):
        code.vstore(clear, code.at(out, at))
    blocks = panel.span // BLOCK
    words = none(ir.VectorType(_I16, width // 2))
    with code.loop(0, panel.spans) as span:
        first = code.mul(span.index, blocks)
        carried = [words] * (2 * panels * panel.bits)
        with code.loop(0, blocks, 1, carried) as block:
            number = code.add(first, block.index)
            left = code.at(tables, code.mul(number, 16 * BLOCK), I8)
            codes = code.at(b, code.mul(number, panel.block_bytes), I8)
            block.next = _block(code, panel, panels, left, codes, block.carried)
        group = span.index if panel.group else 0
        here = code.load(code.at(grouped_rows.factors(code, eight, row), span.index))
        factor = code.splat(here, lanes)
        whole = code.load(code.at(grouped_rows.sums(code, eight, row), span.index))
        for p in range(panels):
            sums = block.carried[2 * p * panel.bits : 2 * (p + 1) * panel.bits]
            base = code.at(b, p * panel.bytes, I8)
            for v in range(PANEL // lanes):
                value = _value(code, panel, base, group, v, sums, code.splat(whole, lanes))
                place = code.at(out, p * PANEL + v * lanes)
                total = code.vload(place, lanes)
                code.vstore(code.fma(value, factor, total), place)
    code.b.ret_void()
    return fn


def _block(
    code: Code,
    panel: PlanePanel,
    panels: int,
    tables: ir.Value,
    codes: ir.Value,
    carried: list[ir.Value],
) -> list[ir.Value]:
    """64 k of all planes; ``carried``: even and odd sums of each."""
    width = _width(code.target)
    table_type = ir.VectorType(I8, width)
    zero = none(table_type)
    sums = [_Sums(zero, zero, *carried[i : i + 2]) for i in range(0, len(carried), 2)]
    vectors = PLANE // width
    for t in range(vectors):
        left = [
            code.vload(code.at(tables, (4 * t + j) * width, I8), width, element=I8)
            for j in range(4)
        ]
        for p in range(panels):
            for i in range(panel.bits):
                at = code.at(codes, p * panel.bytes + i * PLANE + t * width, I8)
                if t * width % 64 == 0:
                    code.prefetch(code.at(at, AHEAD, I8))
                raw = code.vload(at, width, element=I8)
                of = sums[p * panel.bits + i]
                for nibble in range(2):
                    picks = _nibble(code, raw, nibble)
                    of.low = code.b.add(of.low, _shuffle(code, left[2 * nibble], picks))
                    of.high = code.b.add(of.high, _shuffle(code, left[2 * nibble + 1], picks))
        if 2 * (t + 1) % _LOOKUPS == 0:
            for of in sums:
                _flush(code, of)
                of.low = of.high = zero
    return [value for of in sums for value in (of.even, of.odd)]


def _nibble(code: Code, raw: ir.Value, which: int) -> ir.Value:
    kind = ir.VectorType(_I16, raw.type.count // 2)
    words = code.b.bitcast(raw, kind)
    if which:
        words = code.b.lshr(words, ir.Constant(kind, [4] * kind.count))
    kept = code.b.and_(words, ir.Constant(kind, [0x0F0F] * kind.count))
    return code.b.bitcast(kept, raw.type)


def _shuffle(code: Code, table: ir.Value, picks: ir.Value) -> ir.Value:
    kind = ir.FunctionType(table.type, [table.type, table.type])
    fn = code.declare(f"llvm.x86.{_SHUFFLE[table.type.count]}", kind)
    return code.b.call(fn, [table, picks])


def _flush(code: Code, of: _Sums) -> None:
    """Both bytes of what was looked up, put together in 16 bits."""
    kind = of.even.type
    low, high = code.b.bitcast(of.low, kind), code.b.bitcast(of.high, kind)

    def every(value: int) -> ir.Constant:
        return ir.Constant(kind, [value] * kind.count)

    down = every(8 - _LOW)
    of.even = code.b.add(of.even, code.b.and_(low, every(0xFF)))
    of.even = code.b.add(of.even, code.b.ashr(code.b.shl(high, every(8)), down))
    of.odd = code.b.add(of.odd, code.b.lshr(low, every(8)))
    of.odd = code.b.add(of.odd, code.b.ashr(code.b.and_(high, every(-256)), down))


def _value(
    code: Code,
    panel: PlanePanel,
    b: ir.Value,
    group: Int,
    v: int,
    sums: list[ir.Value],
    whole: ir.Value,
) -> ir.Value:
    """What a vector of columns gets from a span, but for the factor of the row. ``whole``: sum of
    the span's activations."""
    lanes = code.target.lanes_f32
    odd, first = divmod(v * lanes, 16)
    by = scales(code, panel, b, group, v)
    value = None
    for i, scale in enumerate(by):
        number = _columns(code, sums[2 * i + odd], first)
        value = code.b.fmul(scale, number) if value is None else code.fma(scale, number, value)
    assert value is not None
    if panel.kind != "even":
        return value
    step = code.b.fadd(by[0], by[0])
    return code.fma(code.b.fmul(step, middle(code, panel, b, group, v)), whole, value)


def _columns(code: Code, words: ir.Value, first: int) -> ir.Value:
    """f32 of ``lanes`` columns from ``first`` on; a vector of two lines has them twice."""
    lanes = code.target.lanes_f32
    total = None
    for part in range(0, words.type.count, 16):
        picks = ir.Constant(ir.VectorType(I32, lanes), [part + first + i for i in range(lanes)])
        one = code.b.shuffle_vector(words, words, picks)
        total = one if total is None else code.b.add(total, one)
    assert total is not None
    return code.b.sitofp(code.b.sext(total, ir.VectorType(I32, lanes)), code.vector(lanes))


def _width(target: Target) -> int:
    """Bytes of a vector."""
    return target.vector_bits // 8

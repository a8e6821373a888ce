"""Few rows by ternary weights, exactly in integers: dot products of 2-bit codes, or sums of three
activations that a permutation looks up.

Dots: codes 0, 1, 2 in their bits of a byte are unsigned numbers up to 2 2^6, which vpdpbusd takes
as they lie; what is in other bits than the lowest has sums of its own, which are shifted back at
the end. BitNet's I2_S (Wang et al., arXiv 2502.11880) shifts and masks instead. Without VNNI codes
are shifted into place; vpmaddubsw then gives at most 508 in 16 bits, 64 of which add up before they
go to 32. Either way the row's sum of codes is taken off.

Lookups: the 27 sums of three activations with signs are a table of 32 words in one register of 512
bits, which vpermw reads by the lowest 5 bits of every word: TL2's idea with 16-bit entries, so that
nothing is rounded and no sign is kept apart. A sum is at most 381, 84 of which add up in 16 bits.
"""

from __future__ import annotations

from llvmlite import ir

from tilewright.backends.llvm import int8
from tilewright.backends.llvm.bf16_microkernel import internal
from tilewright.backends.llvm.builder import I8, I32, I64, PTR, VOID, Code, Int, zeros
from tilewright.backends.llvm.microkernel import PANEL
from tilewright.backends.llvm.ternary_codes import TernaryPanel, emit_row, scaled
from tilewright.backends.target import Target

AHEAD = 1024
"""Bytes that codes are asked for before their use."""

_BITS = 2
_TOGETHER = 16
"""Lines whose sums fit 16 bits: 64 of at most 508."""

_LOOKED_UP = 28
"""Lines whose lookups fit 16 bits: 84 of at most 381."""

_TABLE = 64
"""Bytes of a table of three k."""

_I16 = ir.IntType(16)
_DOTS = ir.FunctionType(VOID, [PTR, PTR, I64, PTR])
_LOOKUPS = ir.FunctionType(VOID, [PTR, PTR, PTR])
_PAIRS = {8: "avx2.pmadd.ub.sw", 16: "avx512.pmaddubs.w.512"}
_SUMS = {8: "avx2.pmadd.wd", 16: "avx512.pmaddw.d.512"}


def row_bytes(panel: TernaryPanel) -> int:
    """Room of a prepared row, with its tables if there are any."""
    return panel.row_bytes + (panel.depth // 3 * _TABLE if panel.trits else 0)


def looks_up(target: Target) -> bool:
    """Whether ``target`` permutes 32 words."""
    return "avx512bw" in target.all_features


def emit_rows(
    code: Code, panel: TernaryPanel, a: ir.Value, lda: Int, rows: Int, out: ir.Value
) -> None:
    """Prepared rows one after another at ``out``."""
    with code.loop(0, rows) as at:
        row = code.at(out, code.mul(at.index, row_bytes(panel)), I8)
        emit_row(code, panel, code.at(a, code.mul(at.index, lda)), row)
        if panel.trits:
            _tables(code, panel, row)


def _tables(code: Code, panel: TernaryPanel, row: ir.Value) -> None:
    """The sums of every three activations of a prepared row."""
    kind = ir.VectorType(_I16, 32)
    tables = code.at(row, panel.row_bytes, I8)
    with code.loop(0, panel.depth // 3) as third:
        total = zeros(kind)
        for i, step in enumerate((9, 3, 1)):
            here = code.at(row, code.add(code.mul(third.index, 3), i), I8)
            one = code.splat(code.b.sext(code.load(here, I8), _I16), 32)
            signs = [c // step % 3 - 1 for c in range(27)]
            total = code.b.add(total, code.b.mul(one, ir.Constant(kind, signs + [0] * 5)))
        code.vstore(total, code.at(tables, code.mul(third.index, _TABLE), I8))


def vectors(target: Target, rows: int) -> int:
    """Vectors of a panel's columns that ``rows`` rows take at once."""
    each = PANEL // target.lanes_f32
    return each if target.vector_regs >= 32 else max(1, each // rows)


def dot_kernel(code: Code, panel: TernaryPanel, rows: int) -> ir.Function:
    """``void (prepared rows, panel, first vector, out)``: out [rows][32] f32."""
    name = f"tilewright_ternary_dots_{panel.k}_{rows}"
    found = code.module.globals.get(name)
    if found is not None:
        return found
    fn, code = internal(code, _DOTS, name)
    left, b, first, out = fn.args
    lanes, count = code.target.lanes_f32, vectors(code.target, rows)
    lines = code.at(b, code.mul(first, 4 * lanes), I8)
    vnni = int8.dots(code.target).held == "u8"
    sums = (_by_dots if vnni else _by_pairs)(code, panel, left, lines, rows, count)
    for r in range(rows):
        row = code.at(left, r * row_bytes(panel), I8)
        whole = code.load(code.at(row, panel.factor_at + 4, I8), I32)
        for v in range(count):
            number = code.add(first, v)
            total = code.b.sub(sums[r * count + v], code.splat(whole, lanes))
            value = scaled(code, panel, b, row, number, total)
            code.vstore(value, code.at(out, code.add(r * PANEL, code.mul(number, lanes))))
    code.b.ret_void()
    return fn


def _by_dots(
    code: Code, panel: TernaryPanel, left: ir.Value, lines: ir.Value, rows: int, count: int
) -> list[ir.Value]:
    """i32 sums of codes [rows x vectors], by vpdpbusd."""
    lanes, d = code.target.lanes_f32, int8.dots(code.target)
    kind = ir.VectorType(I32, lanes)
    apart = 4 if rows * count * 4 <= 16 else 1
    with code.loop(0, panel.lines, 1, [zeros(kind)] * (rows * count * apart)) as line:
        sums = list(line.carried)
        acts = [_activations(code, panel, left, r, line.index) for r in range(rows)]
        for v in range(count):
            codes = _codes(code, panel, lines, line.index, v)
            for j in range(4):
                if apart == 1 and j:
                    codes = code.b.lshr(codes, ir.Constant(kind, [_BITS] * lanes))
                shift = 0 if apart == 1 else _BITS * j
                taken = code.b.and_(codes, ir.Constant(kind, [0x03030303 << shift] * lanes))
                for r in range(rows):
                    i = (r * count + v) * apart + j % apart
                    sums[i] = int8.accumulate(code, d, sums[i], [taken], [acts[r][j]])
        line.next = sums
    found = []
    for i in range(0, len(line.carried), apart):
        total = line.carried[i]
        for j in range(1, apart):
            by = ir.Constant(kind, [_BITS * j] * lanes)
            total = code.b.add(total, code.b.ashr(line.carried[i + j], by))
        found.append(total)
    return found


def _by_pairs(
    code: Code, panel: TernaryPanel, left: ir.Value, lines: ir.Value, rows: int, count: int
) -> list[ir.Value]:
    """i32 sums of codes [rows x vectors], by vpmaddubsw."""
    lanes = code.target.lanes_f32
    kind, words = ir.VectorType(I32, lanes), ir.VectorType(_I16, 2 * lanes)
    raw = ir.VectorType(I8, 4 * lanes)
    pairs = code.declare(f"llvm.x86.{_PAIRS[lanes]}", ir.FunctionType(words, [raw, raw]))
    add = code.declare(f"llvm.x86.{_SUMS[lanes]}", ir.FunctionType(kind, [words, words]))
    ones = ir.Constant(words, [1] * words.count)
    with code.loop(0, panel.lines, _TOGETHER, [zeros(kind)] * (rows * count)) as part:
        end = code.min(code.add(part.index, _TOGETHER), panel.lines)
        with code.loop(part.index, end, 1, [zeros(words)] * (rows * count)) as line:
            sums = list(line.carried)
            acts = [_activations(code, panel, left, r, line.index) for r in range(rows)]
            for v in range(count):
                codes = _codes(code, panel, lines, line.index, v)
                for j in range(4):
                    if j:
                        codes = code.b.lshr(codes, ir.Constant(kind, [_BITS] * lanes))
                    taken = code.b.and_(codes, ir.Constant(kind, [0x03030303] * lanes))
                    for r in range(rows):
                        args = [code.b.bitcast(x, raw) for x in (taken, acts[r][j])]
                        i = r * count + v
                        sums[i] = code.b.add(sums[i], code.b.call(pairs, args))
            line.next = sums
        part.next = [
            code.b.add(total, code.b.call(add, [more, ones]))
            for total, more in zip(part.carried, line.carried, strict=True)
        ]
    return part.carried


def _codes(code: Code, panel: TernaryPanel, lines: ir.Value, line: Int, v: int) -> ir.Value:
    lanes = code.target.lanes_f32
    at = code.at(lines, code.add(code.mul(line, panel.line_bytes), 4 * v * lanes), I8)
    if 4 * v * lanes % 64 == 0:
        code.prefetch(code.at(at, AHEAD, I8))
    return code.vload(at, lanes, element=I32)


def _activations(
    code: Code, panel: TernaryPanel, left: ir.Value, r: int, line: Int
) -> list[ir.Value]:
    """The four quads of k of a line, in every lane."""
    base = code.add(code.mul(line, panel.line), r * row_bytes(panel))
    return [
        code.splat(code.load(code.at(left, code.add(base, 4 * j), I8), I32), code.target.lanes_f32)
        for j in range(4)
    ]


def lookup_kernel(code: Code, panel: TernaryPanel, panels: int) -> ir.Function:
    """``void (prepared row, panels, out)``: out [panels][32] f32."""
    name = f"tilewright_ternary_lookups_{panel.k}_{panels}"
    found = code.module.globals.get(name)
    if found is not None:
        return found
    fn, code = internal(code, _LOOKUPS, name)
    row, b, out = fn.args
    words, half = ir.VectorType(_I16, 32), ir.VectorType(I32, 16)
    permute = code.declare("llvm.x86.avx512.permvar.hi.512", ir.FunctionType(words, [words, words]))
    tables = code.at(row, panel.row_bytes, I8)
    with code.loop(0, panel.lines, _LOOKED_UP, [zeros(half)] * (2 * panels)) as part:
        end = code.min(code.add(part.index, _LOOKED_UP), panel.lines)
        with code.loop(part.index, end, 1, [zeros(words)] * panels) as line:
            sums = list(line.carried)
            held = [
                code.vload(
                    code.at(tables, code.add(code.mul(line.index, 3 * _TABLE), i * _TABLE), I8),
                    32,
                    element=_I16,
                )
                for i in range(3)
            ]
            for p in range(panels):
                at = code.add(code.mul(line.index, panel.line_bytes), p * panel.bytes)
                place = code.at(b, at, I8)
                code.prefetch(code.at(place, AHEAD, I8))
                codes = code.vload(place, 32, element=_I16)
                for i in range(3):
                    if i:
                        codes = code.b.lshr(codes, ir.Constant(words, [5] * 32))
                    sums[p] = code.b.add(sums[p], code.b.call(permute, [held[i], codes]))
            line.next = sums
        part.next = []
        for p in range(panels):
            for side in range(2):
                picks = ir.Constant(half, [16 * side + i for i in range(16)])
                one = code.b.shuffle_vector(line.carried[p], line.carried[p], picks)
                wide = code.b.sext(one, half)
                part.next.append(code.b.add(part.carried[2 * p + side], wide))
    for p in range(panels):
        base = code.at(b, p * panel.bytes, I8)
        for side in range(2):
            value = scaled(code, panel, base, row, side, part.carried[2 * p + side])
            code.vstore(value, code.at(out, p * PANEL + 16 * side))
    code.b.ret_void()
    return fn

"""Few rows by integer codes: every byte of B passes once, sums are scaled after each group.

Activations of 8 bits: codes stay unsigned for vpdpbusd (or vpmaddwd), and

    sum s (q - z) x = sum over groups of s f (sum q x' - z sum x')      x = f x'

(MixPE's dequantization after the group; zero-points by sums of blocks as in ONNX Runtime's MLAS).
Codes below 8 bits are not shifted into place: q 2^j is multiplied, with sums of its own that are
shifted back once a group. bf16 activations: codes become the bf16 numbers 128 + q by one mask and
one or, exactly, in pairs of k 0, 2 and 1, 3; the 128 goes with the zero-point.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from llvmlite import ir

from tilewright.backends.llvm import bf16, grouped_rows, int8
from tilewright.backends.llvm.bf16_microkernel import internal
from tilewright.backends.llvm.builder import I8, I32, I64, PTR, VOID, Code, Int, zeros
from tilewright.backends.llvm.grouped_codes import (
    LINE_BYTES,
    PIECE,
    Field,
    Panel,
    cleaned,
    fields,
    plane_lines,
    scales,
)
from tilewright.backends.llvm.grouped_codes import zeros as zero_points
from tilewright.backends.llvm.microkernel import PANEL
from tilewright.backends.target import Target

AHEAD = 1536
"""Bytes that each stream of B is asked for before its use."""

_SHIFTS = {8: (0,), 6: (0, 2), 5: (0, 3), 4: (0, 4), 3: (0, 2, 4), 2: (0, 2, 4, 6)}
_ONE = 0x4300
"""bf16 128.0, whose lower seven bits count ones."""

_KIND = ir.FunctionType(VOID, [PTR, PTR, I64, I64, PTR])


@dataclass(frozen=True)
class Block:
    """``rows`` by ``vectors`` vectors of each of ``panels`` panels. ``int8``: what A is. ``low``:
    codes are shifted into place, which needs fewer sums."""

    panel: Panel
    int8: bool
    rows: int
    panels: int
    vectors: int
    low: bool

    @property
    def shifts(self) -> tuple[int, ...]:
        """Powers of two that sums are multiplied with."""
        if not self.int8:
            return (0, 4) if self.panel.bits > 7 else (0,)
        return (0,) if self.low or self.panel.planes else _SHIFTS[self.panel.bits]


def most_rows(target: Target) -> int:
    """Rows of a block at most."""
    return 8 if target.vector_regs >= 32 else 4


def block(target: Target, panel: Panel, eight: bool, rows: int, panels: int) -> Block:
    """As many vectors of up to ``panels`` panels as registers have room for."""
    each = PANEL // target.lanes_f32
    room = target.vector_regs - 8
    low = target.vector_regs < 32
    for count, vectors in ((4, each), (2, each), (1, each), (1, 2), (1, 1)):
        made = Block(panel, eight, rows, count, min(vectors, each), low)
        if count <= panels and count * made.vectors * rows * (1 + len(made.shifts)) <= room:
            return made
    return Block(panel, eight, rows, 1, 1, True)


def dot_kernel(code: Code, of: Block) -> ir.Function:
    """``void (prepared rows, packed B, first panel, first vector, out)``: out is f32
    [panels][rows][32]."""
    p = of.panel
    shape = f"{of.rows}x{of.panels}x{of.vectors}{'l' if of.low else ''}"
    kind = f"{p.k}_{p.bits}_{p.group}{'s' if p.symmetric else ''}{'i' if of.int8 else 'b'}"
    kind += "h" if p.halves else ""
    if p.slices:
        kind += f"_{p.panels}of{''.join(map(str, p.slices))}"
    name = f"tilewright_grouped_dots_{kind}_{shape}"
    found = code.module.globals.get(name)
    if found is not None:
        return found
    fn, code = internal(code, _KIND, name)
    rows, matrix, index, first, out = fn.args
    b = code.at(matrix, code.mul(index, p.bytes), I8)
    lanes = code.target.lanes_f32
    places = [(part, v) for part in range(of.panels) for v in range(of.vectors)]
    none = zeros(code.vector(lanes))
    with code.loop(0, p.groups, 1, [none] * (of.rows * len(places))) as group:
        kind_of_sums = ir.VectorType(I32, lanes) if of.int8 else code.vector(lanes)
        count = of.rows * len(places) * len(of.shifts)
        base = code.at(b, code.mul(group.index, p.group_bytes), I8)
        left = code.at(rows, code.mul(group.index, p.group * (1 if of.int8 else 2)), I8)
        ahead = _ahead(code, of, group.index)
        with code.loop(0, p.pieces, 1, [zeros(kind_of_sums)] * count) as piece:
            held = list(piece.carried)
            codes = code.at(base, code.mul(piece.index, p.piece_bytes), I8)
            number = code.add(code.mul(group.index, p.pieces), piece.index)
            beside = [plane_lines(code, plane, matrix, index, number) for plane in p.planes]
            size = PIECE if of.int8 else 2 * PIECE
            taken = code.at(left, code.mul(piece.index, size), I8)
            for i, (part, v) in enumerate(places):
                sizes = (p.bytes, *(plane.panel_bytes for plane in p.planes))
                lines = [
                    code.at(at, code.add(part * own, code.mul(code.add(first, v), 4 * lanes)), I8)
                    for at, own in zip((codes, *beside), sizes, strict=True)
                ]
                _piece(code, of, (lines, ahead), taken, held, (i, len(places), v))
                # Without it operands of several vectors are held at once, which spills.
                code.b.fence("seq_cst", "singlethread")
            piece.next = held
        totals = []
        for i, (part, v) in enumerate(places):
            vector = code.mul(code.add(first, v), lanes)
            end = code.at(base, part * p.bytes + p.code_bytes, I8)
            scale = scales(code, p, code.at(end, code.mul(vector, 2), I8), lanes)
            at_zeros = None
            if not p.symmetric:
                table = code.at(b, part * p.bytes + p.zeros_at, I8)
                line = code.add(code.mul(group.index, PANEL), vector)
                at_zeros = code.at(table, line, I8)
            zero = zero_points(code, p, at_zeros, lanes)
            for r in range(of.rows):
                here = [
                    piece.carried[(r * len(places) + i) * len(of.shifts) + s]
                    for s in range(len(of.shifts))
                ]
                row = code.at(rows, r * p.row_bytes, I8)
                total = group.carried[r * len(places) + i]
                args = (here, scale, zero, row, group.index, total)
                totals.append((r * len(places) + i, _scaled(code, of, *args)))
        group.next = [value for _, value in sorted(totals, key=lambda pair: pair[0])]
    for i, (part, v) in enumerate(places):
        for r in range(of.rows):
            at = code.add((part * of.rows + r) * PANEL, code.mul(code.add(first, v), lanes))
            code.vstore(group.carried[r * len(places) + i], code.at(out, at))
    code.b.ret_void()
    return fn


def _ahead(code: Code, of: Block, group: ir.Value) -> list[Int]:
    """How far ahead the panel and its planes are asked for in a group: behind the end of a panel,
    where the next ones begin that are not read beside it."""
    p = of.panel
    streams = [(p.bytes, p.group_bytes)]
    streams += [(x.panel_bytes, p.pieces * x.bits * LINE_BYTES) for x in p.planes]
    found = []
    for size, step in streams:
        late = code.cmp(">=", group, max(p.groups - round(AHEAD / step), 0))
        found.append(code.select(late, AHEAD + (of.panels - 1) * size, AHEAD))
    return found


def _piece(
    code: Code,
    of: Block,
    streams: tuple[Sequence[ir.Value], Sequence[Int]],
    left: ir.Value,
    sums: list[ir.Value],
    where: tuple[int, int, int],
) -> None:
    """32 k of one vector of columns, added to ``sums`` in place. streams: lines of the panel and of
    planes, how far ahead they are asked for. where: which place, of how many, which vector."""
    lanes = code.target.lanes_f32
    place, places, vector = where

    def line(plane: int, i: int) -> ir.Value:
        at = code.at(streams[0][plane], i * LINE_BYTES, I8)
        if vector * lanes % 16 == 0:
            code.prefetch(code.at(at, streams[1][plane], I8))
        return code.vload(at, lanes, element=I32)

    for quad, field in enumerate(fields(code, of.panel, line)):
        for r in range(of.rows):
            row = code.at(left, r * of.panel.row_bytes, I8)
            first = (r * places + place) * len(of.shifts)
            if of.int8:
                which = 0 if of.low else of.shifts.index(field.shift)
                at = first + which
                sums[at] = _bytes(code, of, field, row, quad, sums[at])
            else:
                sums[first : first + len(of.shifts)] = _pairs(
                    code, of, field, row, quad, sums[first : first + len(of.shifts)]
                )


def _bytes(
    code: Code, of: Block, field: Field, row: ir.Value, quad: int, total: ir.Value
) -> ir.Value:
    d = int8.dots(code.target)
    taken = cleaned(code, field, of.panel.bits, low=of.low)
    left = code.splat(code.load(code.at(row, 4 * quad, I8), I32), d.lanes)
    a, b = int8.split(code, d, taken, False), int8.split(code, d, left, True)
    return int8.accumulate(code, d, total, a, b)


def _pairs(
    code: Code, of: Block, field: Field, row: ir.Value, quad: int, totals: list[ir.Value]
) -> list[ir.Value]:
    """k 0 and 2, then 1 and 3, of the whole codes or of their lower and upper halves."""
    kind = field.lanes.type
    bits = of.panel.bits // len(of.shifts)
    clear, one = (
        ir.Constant(kind, [word | word << 16] * kind.count) for word in (2**bits - 1, _ONE)
    )
    found = list(totals)
    for odd in range(2):
        left = code.splat(code.load(code.at(row, 8 * quad + 4 * odd, I8), I32), bf16.LANES)
        for i, part in enumerate(of.shifts):
            by = ir.Constant(kind, [field.shift + 8 * odd + part] * kind.count)
            taken = code.b.and_(code.b.lshr(field.lanes, by), clear)
            found[i] = bf16.dot(code, found[i], left, code.b.or_(taken, one))
    return found


def _scaled(
    code: Code,
    of: Block,
    sums: list[ir.Value],
    scale: ir.Value,
    zero: ir.Value,
    row: ir.Value,
    group: ir.Value,
    total: ir.Value,
) -> ir.Value:
    """``total`` and what the sums of a group stand for."""
    lanes = code.target.lanes_f32
    at_sum = code.at(grouped_rows.sums(code, of.panel, row), group)
    block_sum = code.splat(code.load(at_sum), lanes)
    if of.int8:
        whole = sums[0]
        for shift, more in zip(of.shifts[1:], sums[1:], strict=True):
            by = ir.Constant(more.type, [shift] * lanes)
            whole = code.b.add(whole, code.b.ashr(more, by))
        value = code.b.sitofp(whole, code.vector(lanes))
        factor = code.load(code.at(grouped_rows.factors(code, of.panel, row), group))
        scale = code.b.fmul(scale, code.splat(factor, lanes))
    else:
        value, offset = sums[0], 128.0
        for shift, more in zip(of.shifts[1:], sums[1:], strict=True):
            value = code.fma(more, code.splat(2.0**shift, lanes), value)
            offset += 128.0 * 2**shift
        zero = code.b.fadd(zero, code.splat(offset, lanes))
    value = code.fma(code.b.fneg(zero), block_sum, value)
    return code.fma(value, scale, total)

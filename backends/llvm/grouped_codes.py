"""Packed integer codes with a scale and zero-point for each group: where they lie, and their codes
taken out of a vector.

A panel is 32 columns. Its groups follow each other; a group is its codes, then 32 scales (f16).
Behind the last group come the zero-points of all groups, 32 bytes each, unless the format is
symmetric; each panel begins at a multiple of 64 bytes. Codes come in pieces of 32 k: lines of 128
bytes, four for each of the 32 columns. Byte i of a column holds codes of k = 4 q + i for several
quads q:

    8 bits  line q has quad q                                            8 lines a piece
    4 bits  line l has quads 2l in bits 0-3, 2l + 1 in bits 4-7          4
    2 bits  line l has quads 4l .. 4l + 3 in bits 0-1, 2-3, 4-5, 6-7     2
    3 bits  two lines as of 2 bits with the lower bits, then one with the upper ones: of quads 0 to
            2 in bits 2, 4, 6, of 4 to 6 in bits 3, 5, 7, of 3 and 7 in bits 0 and 1       3
    1 bit   the line has quads 0 .. 7 in bits 0 .. 7                                       1
    5 bits  four lines as of 4 bits, of even quads the lower four bits, of odd quads the upper four;
            one with the others, of quads 2j + 1 and 2j in bits 2j and 2j + 1              5
    6 bits  the same, two bits of each quad in two lines: of quads 4l + 1, 4l, 4l + 3 and 4l + 2 in
            bits 0-1, 2-3, 4-5, 6-7                                                        6

With 5 and 6 bits one shift puts the others of a pair of quads beside where their four bits lie:
above those of the even quad, below those of the odd one.

Codes that are read in slices (compiler.formats.sliced) lie in planes: the panels hold the bits of
the narrowest slice, their scales and the zero-points of the widest. Behind all panels come planes
of further bits, each of whole panels one after the other, in the order in which wider slices need
them, at most 4 bits each: a slice reads its own bits and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial, reduce

from llvmlite import ir

from tilewright.backends.llvm.builder import I8, I32, Code, Int
from tilewright.backends.llvm.microkernel import PANEL

PIECE = 32
"""k of one piece."""

QUADS = PIECE // 4
LINE_BYTES = 4 * PANEL
F16 = ir.HalfType()
_SELECT = 0xCA  # vpternlogd: the first operand's ones choose the second, its zeros the third


@dataclass(frozen=True)
class Plane:
    """Bits of codes behind the panels: ``bits`` of them from bit ``low`` of what is read. It begins
    at ``start`` of the matrix; each panel has ``panel_bytes`` of it."""

    bits: int
    low: int
    start: int
    panel_bytes: int


@dataclass(frozen=True)
class Panel:
    """Sizes of a packed panel of ``k`` rows, and of prepared rows of A.

    ``bits`` are read of each code. ``slices``: rising, of codes in planes, () for others; the
    matrix then has ``panels`` panels. ``centred``: the zero-point of a symmetric format is the mean
    of all codes, not an integer. ``halves``: zero-points are stored as twice what they are.
    """

    k: int
    bits: int
    group: int
    symmetric: bool
    slices: tuple[int, ...] = ()
    panels: int = 1
    centred: bool = False
    halves: bool = False

    @property
    def groups(self) -> int:
        return -(-self.k // self.group)

    @property
    def depth(self) -> int:
        """k with the padding of the last group."""
        return self.groups * self.group

    @property
    def pieces(self) -> int:
        """Pieces of a group."""
        return self.group // PIECE

    @property
    def own_bits(self) -> int:
        """Bits of a code in the panel itself."""
        return self.slices[0] if self.slices else self.bits

    @property
    def piece_bytes(self) -> int:
        return self.own_bits * LINE_BYTES

    @property
    def code_bytes(self) -> int:
        """Bytes of the codes of a group."""
        return self.pieces * self.piece_bytes

    @property
    def group_bytes(self) -> int:
        return self.code_bytes + 2 * PANEL

    @property
    def zeros_at(self) -> int:
        """Where the zero-points begin."""
        return self.groups * self.group_bytes

    @property
    def bytes(self) -> int:
        """Without what lies in planes."""
        zeros = 0 if self.symmetric else self.groups * PANEL
        return -(-(self.zeros_at + zeros) // 64) * 64

    @property
    def planes(self) -> tuple[Plane, ...]:
        """Those that are read beside the panel."""
        found, at = [], self.panels * self.bytes
        for before, upto in zip(self.slices, self.slices[1:], strict=False):
            left = upto - before
            while left:
                bits = next(b for b in (4, 2, 1) if b <= left)
                left -= bits
                size = self.groups * self.pieces * bits * LINE_BYTES
                if upto <= self.bits:
                    found.append(Plane(bits, self.bits - upto + left, at, size))
                at += self.panels * size
        return tuple(found)

    @property
    def matrix_bytes(self) -> int:
        """Of all panels and all planes."""
        if not self.slices:
            return self.panels * self.bytes
        last = replace(self, bits=self.slices[-1]).planes
        return (
            last[-1].start + self.panels * last[-1].panel_bytes
            if last
            else (self.panels * self.bytes)
        )

    @property
    def read_bytes(self) -> int:
        """Of all panels and those planes that are read."""
        return self.panels * (self.bytes + sum(plane.panel_bytes for plane in self.planes))

    @property
    def row_bytes(self) -> int:
        """Room of a prepared row of A: two bytes for each k, two f32 for each group."""
        return -(-(2 * self.depth + 8 * self.groups) // 64) * 64


@dataclass(frozen=True)
class Field:
    """Codes of one quad of k for a vector of columns: in bits [shift, shift + bits) of every byte
    of ``lanes`` (i32); ``clean`` if the others are 0."""

    lanes: ir.Value
    shift: int
    clean: bool


def plane_lines(
    code: Code, plane: Plane, matrix: ir.Value, index: Int, piece: ir.Value
) -> ir.Value:
    """Where the lines of a piece, counted over all groups, of panel ``index`` begin in a plane."""
    at = code.at(matrix, plane.start, I8)
    at = code.at(at, code.mul(index, plane.panel_bytes), I8)
    return code.at(at, code.mul(piece, plane.bits * LINE_BYTES), I8)


Line = Callable[[int, int], ir.Value]
"""Loads a vector of a line: 0 for the panel itself or the number of a plane, line of the piece."""


def fields(code: Code, panel: Panel, line: Line) -> list[Field]:
    """The eight quads of a piece."""
    own = lined(code, panel.own_bits, partial(line, 0))
    if not panel.planes:
        return own
    parts = [(panel.own_bits, panel.bits - panel.own_bits, own)]
    for number, plane in enumerate(panel.planes, 1):
        parts.append((plane.bits, plane.low, lined(code, plane.bits, partial(line, number))))
    out = []
    for quad in range(QUADS):
        placed = [_placed(code, found[quad], bits, low) for bits, low, found in parts]
        out.append(Field(reduce(code.b.or_, placed), 0, True))
    return out


def _placed(code: Code, field: Field, bits: int, low: int) -> ir.Value:
    """A field's codes in bits [low, low + bits) of every byte, all others 0."""
    if field.clean and field.shift == low:
        return field.lanes
    return mask(code, _right(code, field.lanes, field.shift - low), 2**bits - 1 << low)


def lined(code: Code, bits: int, line: Callable[[int], ir.Value]) -> list[Field]:
    """Of the codes in one plane; ``line(i)`` loads a vector of line i."""
    if bits == 8:
        return [Field(line(q), 0, True) for q in range(QUADS)]
    if bits in (1, 2, 4):
        share = 8 // bits
        lines = [line(i) for i in range(QUADS // share)]
        return [Field(lines[q // share], bits * (q % share), False) for q in range(QUADS)]
    if bits in (5, 6):
        return _pairs(code, bits, line)
    assert bits == 3
    upper = line(2)
    found = []
    for half in range(2):
        lower = line(half)
        for q in range(3):
            bit = _right(code, upper, half)
            low, high = mask(code, lower, 3 << 2 * q), mask(code, bit, 4 << 2 * q)
            found.append(Field(code.b.or_(low, high), 2 * q, True))
        low = mask(code, _right(code, lower, 6), 3)
        high = mask(code, _right(code, upper, half - 2), 4)
        found.append(Field(code.b.or_(low, high), 0, True))
    return found


def _pairs(code: Code, bits: int, line: Callable[[int], ir.Value]) -> list[Field]:
    """Of codes of 5 or 6 bits: even quads from bit 0 on, odd ones up to bit 7."""
    others = bits - 4
    share = 4 // others
    lines = [line(i) for i in range(QUADS // 2 + others)]
    found = []
    for pair, own in enumerate(lines[: QUADS // 2]):
        by = 2 * others * (pair % share) - (4 - others)
        beside = _right(code, lines[QUADS // 2 + pair // share], by)
        beside = mask(code, beside, 2 ** (2 * others) - 1 << 4 - others)
        found.append(Field(_halves(code, own, beside), 0, True))
        found.append(Field(_halves(code, beside, own), 4 - others, True))
    return found


def _halves(code: Code, low: ir.Value, high: ir.Value) -> ir.Value:
    """Bits 0 to 3 of every byte of ``low``, 4 to 7 of ``high``."""
    if low.type.count < 16 or "avx512f" not in code.target.all_features:
        return code.b.or_(mask(code, low, 0x0F), mask(code, high, 0xF0))
    # As and, and, or, the last masks would join that of `_pairs`, which makes two more of it.
    kind = low.type
    fn = code.declare(
        "llvm.x86.avx512.pternlog.d.512", ir.FunctionType(kind, [kind, kind, kind, I32])
    )
    which = ir.Constant(kind, [0x0F0F0F0F] * kind.count)
    return code.b.call(fn, [which, low, high, ir.Constant(I32, _SELECT)])


def cleaned(code: Code, field: Field, bits: int, *, low: bool = False) -> ir.Value:
    """The codes times 2^shift as bytes, all other bits 0; ``low``: not multiplied."""
    lanes, shift = field.lanes, field.shift
    if low and shift:
        lanes, shift = _right(code, lanes, shift), 0
    return lanes if field.clean else mask(code, lanes, 2**bits - 1 << shift)


def _right(code: Code, lanes: ir.Value, by: int) -> ir.Value:
    """i32 lanes shifted right, or left by ``-by``; bits cross bytes."""
    if by == 0:
        return lanes
    count = ir.Constant(lanes.type, [abs(by)] * lanes.type.count)
    return code.b.lshr(lanes, count) if by > 0 else code.b.shl(lanes, count)


def mask(code: Code, lanes: ir.Value, byte: int) -> ir.Value:
    """``lanes`` with these bits of every byte."""
    word = int.from_bytes(bytes([byte]) * 4, "little", signed=True)
    return code.b.and_(lanes, ir.Constant(lanes.type, [word] * lanes.type.count))


def scales(code: Code, panel: Panel, at: ir.Value, lanes: int) -> ir.Value:
    """f32 of ``lanes`` f16 scales."""
    found = code.b.fpext(code.vload(at, lanes, element=F16), code.vector(lanes))
    if panel.bits == panel.own_bits:
        return found
    return code.b.fmul(found, code.splat(2.0 ** (panel.own_bits - panel.bits), lanes))


def zeros(code: Code, panel: Panel, at: ir.Value | None, lanes: int) -> ir.Value:
    """f32 of ``lanes`` zero-points, or of the constant one of a symmetric format."""
    if at is None:
        return code.splat(2 ** (panel.bits - 1) - (0.5 if panel.centred else 0.0), lanes)
    wide = code.b.zext(code.vload(at, lanes, element=I8), ir.VectorType(I32, lanes))
    found = code.b.sitofp(wide, code.vector(lanes))
    if panel.halves:
        return code.b.fmul(found, code.splat(0.5, lanes))
    if not panel.slices or panel.bits == panel.slices[-1]:
        return found
    # Of the widest slice: the middle of the codes that begin alike moves by a half.
    share = 2.0 ** (panel.bits - panel.slices[-1])
    return code.fma(found, code.splat(share, lanes), code.splat(share / 2 - 0.5, lanes))

"""Packed bit planes of weights: where they lie, their scales, and panels of them in bf16 or f32.

A panel is 32 columns. Its codes come in blocks of 64 k; a block has one plane after another, a
plane eight lines of 32 bytes, a line 8 k: byte 2 i of it is column i, byte 2 i + 1 is column
16 + i, bit j is k 8 l + j of line l, 1 for +. So a nibble is four k of a column, which a byte
shuffle looks up in a table of 16, and the even and odd bytes of what is found are 16 columns next
to each other.

Behind the codes come the scales of all groups, then, in integer formats, the zero-points:

    "own"      one f16 (f32 where a column has one group) for each plane, w = sum of a_i (+-1)
    "shift"    one byte for each plane, the exponent of a power of two as f32 has it, 0 for none
    "even"     one f16 and one u8 for all planes: w = s (sum of 2^i bit_i - z)
"""

from __future__ import annotations

from dataclasses import dataclass

from llvmlite import ir

from tilewright.backends.llvm import bf16
from tilewright.backends.llvm.bf16_block import STEP, steps
from tilewright.backends.llvm.bf16_microkernel import PLANE_BYTES
from tilewright.backends.llvm.builder import F32, I8, I32, Code, Int
from tilewright.backends.llvm.grouped_codes import F16
from tilewright.backends.llvm.microkernel import PANEL

BLOCK = 64
"""k of a block."""

LINE = 32
"""Bytes of a line: 8 k of all columns."""

LINES = BLOCK // 8
PLANE = LINE * LINES
"""Bytes of one plane of a block."""

_I16 = ir.IntType(16)


@dataclass(frozen=True)
class PlanePanel:
    """Sizes of a packed panel of ``k`` rows. ``group``: k that share scales, a multiple of BLOCK,
    or 0 for all; ``kind``: as above."""

    k: int
    bits: int
    group: int
    kind: str

    @property
    def groups(self) -> int:
        """Groups of scales."""
        return -(-self.k // self.group) if self.group else 1

    @property
    def span(self) -> int:
        """k whose activations share a scale."""
        return self.group or BLOCK

    @property
    def spans(self) -> int:
        return -(-self.k // self.span)

    @property
    def depth(self) -> int:
        """k with the padding of the last span."""
        return self.spans * self.span

    @property
    def block_bytes(self) -> int:
        return self.bits * PLANE

    @property
    def code_bytes(self) -> int:
        return self.depth // BLOCK * self.block_bytes

    @property
    def scale_bytes(self) -> int:
        """Of one scale."""
        return 1 if self.kind == "shift" else 2 if self.group else 4

    @property
    def scales(self) -> int:
        """Scales of a column in a group."""
        return 1 if self.kind == "even" else self.bits

    @property
    def group_bytes(self) -> int:
        """Scales of a group."""
        return self.scales * PANEL * self.scale_bytes

    @property
    def zeros_at(self) -> int:
        """Where the zero-points begin."""
        return self.code_bytes + self.groups * self.group_bytes

    @property
    def bytes(self) -> int:
        zeros = self.groups * PANEL if self.kind == "even" else 0
        return -(-(self.zeros_at + zeros) // 64) * 64


def scales(code: Code, panel: PlanePanel, b: ir.Value, group: Int, vector: int) -> list[ir.Value]:
    """f32 scales of every plane for the vector of columns ``vector``; those of integers are s 2^i /
    2, by which bits of -1 and 1 make codes about their middle."""
    lanes = code.target.lanes_f32
    size = panel.scale_bytes
    line = code.add(code.mul(group, panel.group_bytes), panel.code_bytes + vector * lanes * size)
    base = code.at(b, line, I8)
    found = []
    for i in range(panel.scales):
        at = code.at(base, i * PANEL * size, I8)
        if size == 4:
            found.append(code.vload(at, lanes))
        elif size == 2:
            found.append(code.b.fpext(code.vload(at, lanes, element=F16), code.vector(lanes)))
        else:
            raw = code.b.zext(code.vload(at, lanes, element=I8), ir.VectorType(I32, lanes))
            moved = code.b.shl(raw, ir.Constant(raw.type, [23] * lanes))
            found.append(code.b.bitcast(moved, code.vector(lanes)))
    if panel.kind != "even":
        return found
    return [code.b.fmul(found[0], code.splat(2.0 ** (i - 1), lanes)) for i in range(panel.bits)]


def middle(code: Code, panel: PlanePanel, b: ir.Value, group: Int, vector: int) -> ir.Value:
    """f32: the middle of all codes less the zero-point, in steps of s."""
    lanes = code.target.lanes_f32
    at = code.add(code.mul(group, PANEL), panel.zeros_at + vector * lanes)
    raw = code.vload(code.at(b, at, I8), lanes, element=I8)
    zero = code.b.uitofp(raw, code.vector(lanes))
    return code.b.fsub(code.splat((2.0**panel.bits - 1) / 2, lanes), zero)


def wide_bytes(panel: PlanePanel, short: bool) -> int:
    """Bytes of a panel in bf16 (``short``) or f32."""
    return steps(panel.k) * PLANE_BYTES * (1 if short else 2)


def emit_wide(code: Code, panel: PlanePanel, b: ir.Value, out: ir.Value, short: bool) -> None:
    """One panel: bf16 [steps][16 pairs][32][2], or f32 [K in whole steps][32]."""
    lanes = code.target.lanes_f32
    size = PLANE_BYTES * (1 if short else 2)
    of_group = panel.group // STEP if panel.group else steps(panel.k)
    with code.loop(0, panel.groups) as group:
        begin = code.mul(group.index, of_group)
        count = code.min(of_group, code.sub(steps(panel.k), begin))
        for v in range(PANEL // lanes):
            values = scales(code, panel, b, group.index, v)
            offset = None
            if panel.kind == "even":
                whole = code.b.fadd(values[0], values[0])
                offset = code.b.fmul(whole, middle(code, panel, b, group.index, v))
            with code.loop(0, count) as step:
                number = code.add(begin, step.index)
                half = code.mul(code.rem(number, BLOCK // STEP), STEP // 8 * LINE)
                block = code.mul(code.div(number, BLOCK // STEP), panel.block_bytes)
                source = code.at(b, code.add(block, half), I8)
                target = code.at(out, code.mul(number, size), I8)
                for line in range(STEP // 8):
                    _line(code, (source, target), line, v, values, offset, short)


def _line(
    code: Code,
    places: tuple[ir.Value, ir.Value],
    line: int,
    v: int,
    scale: list[ir.Value],
    offset: ir.Value | None,
    short: bool,
) -> None:
    """8 k of a vector of columns. A bit turns the sign of its scale."""
    source, target = places
    lanes = code.target.lanes_f32
    odd, first = divmod(v * lanes, 16)
    whole = ir.VectorType(I32, lanes)
    top = ir.Constant(whole, [-(2**31)] * lanes)
    planes = []
    for i, value in enumerate(scale):
        at = code.at(source, i * PLANE + line * LINE + 2 * first, I8)
        words = code.b.zext(code.vload(at, lanes, element=_I16), whole)
        planes.append((words, code.b.xor(code.b.bitcast(value, whole), top)))

    def weight(k: int) -> ir.Value:
        total = offset
        for words, negative in planes:
            by = ir.Constant(whole, [31 - 8 * odd - k] * lanes)
            turned = code.b.xor(negative, code.b.and_(code.b.shl(words, by), top))
            part = code.b.bitcast(turned, code.vector(lanes))
            total = part if total is None else code.b.fadd(total, part)
        assert total is not None
        return total

    for pair in range(4):
        low, high = weight(2 * pair), weight(2 * pair + 1)
        row = 8 * line + 2 * pair
        if not short:
            for j, value in enumerate((low, high)):
                code.vstore(value, code.at(target, (row + j) * PANEL + v * lanes, F32))
            continue
        kind = ir.VectorType(_I16, 2 * lanes)
        both = code.b.bitcast(bf16.pack(code, low, high), kind)
        picks = [x for i in range(lanes) for x in (i, lanes + i)]
        order = ir.Constant(ir.VectorType(I32, 2 * lanes), picks)
        mixed = code.b.shuffle_vector(both, both, order)
        code.vstore(mixed, code.at(target, row // 2 * 4 * PANEL + 4 * v * lanes, I8))

"""Packed ternary weights: where they lie, rows for them, and panels of them in bf16 or f32.

A panel is 32 columns: lines of codes 0, 1, 2, then the columns' 32 scales (f32). Two ways:

    2 bits  a line is 16 k in 128 bytes, four for each column; byte i holds k = 4 j + i in bits 2 j
            and 2 j + 1 (K is filled up to 32)
    trits   a line is 9 k in 32 words of 16 bits: 9 q0 + 3 q1 + q2 of three k in 5 bits, three times
            (1.78 bits a weight)

A prepared row is 8-bit codes by one scale, then that (f32) and the sum of the codes (i32).
"""

from __future__ import annotations

from dataclasses import dataclass

from llvmlite import ir

from tilewright.backends.llvm import bf16
from tilewright.backends.llvm.bf16_block import STEP, steps
from tilewright.backends.llvm.bf16_microkernel import PLANE_BYTES
from tilewright.backends.llvm.builder import F32, I8, I32, Code, Int, zeros
from tilewright.backends.llvm.microkernel import PANEL
from tilewright.compiler.formats.activations import LEAST

_INFINITE = 0x7F800000
_LEAST = int(LEAST.view("u4"))
_MOST = 127.0


@dataclass(frozen=True)
class TernaryPanel:
    """Sizes of a packed panel of ``k`` rows, and of prepared rows of A."""

    k: int
    trits: bool

    @property
    def line(self) -> int:
        """k of a line."""
        return 9 if self.trits else 16

    @property
    def line_bytes(self) -> int:
        return 2 * PANEL if self.trits else 4 * PANEL

    @property
    def depth(self) -> int:
        """k with padding."""
        whole = 9 if self.trits else STEP
        return -(-self.k // whole) * whole

    @property
    def lines(self) -> int:
        return self.depth // self.line

    @property
    def code_bytes(self) -> int:
        return self.lines * self.line_bytes

    @property
    def bytes(self) -> int:
        return self.code_bytes + 4 * PANEL

    @property
    def factor_at(self) -> int:
        """Where a prepared row has its factor; its sum is behind that."""
        return -(-self.depth // 64) * 64

    @property
    def row_bytes(self) -> int:
        """Room of a prepared row."""
        return self.factor_at + 64


def emit_row(code: Code, panel: TernaryPanel, source: ir.Value, row: ir.Value) -> None:
    """s8 codes round(x * 127 / max |x|), zeros behind them, max |x| / 127, sum of codes.

    A row with NaN or infinity has the factor NaN; one without a magnitude of LEAST is all 0.
    """
    lanes = code.target.lanes_f32
    bits = ir.VectorType(I32, lanes)
    clear = ir.Constant(bits, [0x7FFFFFFF] * lanes)
    whole, rest = divmod(panel.k, lanes)
    mask = code.first_lanes(rest, lanes)

    def greater(most: ir.Value, part: ir.Value) -> ir.Value:
        # The bits of magnitudes are in the order of their values, NaN above all.
        here = code.b.and_(code.b.bitcast(part, bits), clear)
        return code.b.select(code.b.icmp_unsigned(">", here, most), here, most)

    with code.loop(0, whole, 1, [zeros(bits)]) as at:
        part = code.vload(code.at(source, code.mul(at.index, lanes)), lanes)
        at.next = [greater(at.carried[0], part)]
    most = at.carried[0]
    if rest:
        most = greater(most, code.vload(code.at(source, whole * lanes), lanes, mask))
    top = _reduced(code, "umax", most)
    finite = code.b.icmp_unsigned("<", top, ir.Constant(I32, _INFINITE))
    usable = code.b.icmp_unsigned(">=", top, ir.Constant(I32, _LEAST))
    usable = code.b.and_(usable, finite)
    magnitude = code.b.bitcast(top, F32)
    limit, none = ir.Constant(F32, _MOST), ir.Constant(F32, 0.0)
    odd = code.b.select(finite, none, ir.Constant(F32, float("nan")))
    factor = code.b.select(usable, code.b.fdiv(magnitude, limit), odd)
    inverse = code.b.select(usable, code.b.fdiv(limit, magnitude), none)
    many, by = code.splat(usable, lanes), code.splat(inverse, lanes)

    def narrowed(total: ir.Value, part: ir.Value, place: Int) -> ir.Value:
        taken = code.b.select(many, part, zeros(part.type))
        value = code.intrinsic("roundeven", code.b.fmul(taken, by))
        codes = code.b.fptosi(value, bits)
        code.vstore(code.b.trunc(codes, ir.VectorType(I8, lanes)), code.at(row, place, I8))
        return code.b.add(total, codes)

    with code.loop(0, whole, 1, [zeros(bits)]) as at:
        place = code.mul(at.index, lanes)
        part = code.vload(code.at(source, place), lanes)
        at.next = [narrowed(at.carried[0], part, place)]
    total = at.carried[0]
    if rest:
        part = code.vload(code.at(source, whole * lanes), lanes, mask)
        total = narrowed(total, part, whole * lanes)
    with code.loop((whole + bool(rest)) * lanes, panel.factor_at, lanes) as gap:
        code.vstore(zeros(ir.VectorType(I8, lanes)), code.at(row, gap.index, I8))
    code.store(factor, code.at(row, panel.factor_at, I8))
    code.store(_reduced(code, "add", total), code.at(row, panel.factor_at + 4, I8))


def scaled(
    code: Code, panel: TernaryPanel, b: ir.Value, row: ir.Value, v: Int, total: ir.Value
) -> ir.Value:
    """f32 of i32 sums of codes -1, 0, 1 of the vector ``v`` of columns."""
    lanes = code.target.lanes_f32
    at = code.at(b, code.add(panel.code_bytes, code.mul(v, 4 * lanes)), I8)
    factor = code.splat(code.load(code.at(row, panel.factor_at, I8)), lanes)
    scale = code.b.fmul(code.vload(at, lanes), factor)
    return code.b.fmul(code.b.sitofp(total, code.vector(lanes)), scale)


def emit_wide(code: Code, panel: TernaryPanel, b: ir.Value, out: ir.Value, short: bool) -> None:
    """A panel of 2 bits: bf16 [steps][16 pairs][32][2], or f32 [K in whole steps][32]."""
    assert not panel.trits, "rows by trits are looked up"
    lanes = code.target.lanes_f32
    whole = ir.VectorType(I32, lanes)
    size = PLANE_BYTES * (1 if short else 2)
    words = ir.VectorType(ir.IntType(16), 2 * lanes)
    picks = [x for i in range(lanes) for x in (i, lanes + i)]
    order = ir.Constant(ir.VectorType(I32, 2 * lanes), picks)
    for v in range(PANEL // lanes):
        scale = code.vload(code.at(b, panel.code_bytes + 4 * v * lanes, I8), lanes)
        minus = code.b.fneg(scale)
        with code.loop(0, steps(panel.k)) as step:
            source = code.at(b, code.mul(step.index, 2 * panel.line_bytes), I8)
            target = code.at(out, code.mul(step.index, size), I8)
            for line in range(2):
                at = code.at(source, line * panel.line_bytes + 4 * v * lanes, I8)
                codes = code.vload(at, lanes, element=I32)
                for j in range(4):
                    values = []
                    for i in range(4):
                        by = ir.Constant(whole, [8 * i + 2 * j] * lanes)
                        number = code.b.lshr(codes, by)
                        number = code.b.and_(number, ir.Constant(whole, [3] * lanes))
                        value = code.b.sitofp(number, code.vector(lanes))
                        values.append(code.fma(value, scale, minus))
                    first = 16 * line + 4 * j
                    if not short:
                        for i, value in enumerate(values):
                            code.vstore(value, code.at(target, (first + i) * PANEL + v * lanes))
                        continue
                    for i in (0, 2):
                        both = code.b.bitcast(bf16.pack(code, values[i], values[i + 1]), words)
                        mixed = code.b.shuffle_vector(both, both, order)
                        place = (first + i) // 2 * 4 * PANEL + 4 * v * lanes
                        code.vstore(mixed, code.at(target, place, I8))


def _reduced(code: Code, how: str, values: ir.Value) -> ir.Value:
    kind = ir.FunctionType(I32, [values.type])
    name = f"llvm.vector.reduce.{how}.v{values.type.count}i32"
    return code.b.call(code.declare(name, kind), [values])

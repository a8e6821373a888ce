"""Rows of activations in 8 bits, each by its own scale, put into the block of int8_block.

q = round(x * (127 / max |x|)), scale max |x| / 127, as compiler.formats.activations.Int8 says.
Two ways for columns that would make the scale large:
  * They are kept out of it: a mask of all ones and zeros is and-ed to the elements, and those
    columns go to a block of bf16 instead, [row][32], which bf16 products take.
  * They get copies: a column that occurs c times may reach 127 c, and each copy takes the part of q
    that the ones before it leave. max |x / c| takes the place of max |x|.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from llvmlite import ir

from tilewright.backends.llvm import formats
from tilewright.backends.llvm.amx import ROWS
from tilewright.backends.llvm.bf16_block import STEP as TAIL
from tilewright.backends.llvm.builder import F32, I8, I32, I64, Code, Int, zeros
from tilewright.backends.llvm.int8 import STEP, Dots
from tilewright.backends.llvm.int8_block import line, of_step, put, steps
from tilewright.backends.llvm.rounding import bits_of, narrow

LEAST = 2.0**-120
"""Rows that are nowhere as great count as zeros: the inverse of their scale would overflow."""

Element = Callable[[Int, ir.Value | None], ir.Value]
"""(column, mask) -> a vector of f32 from there on, to be rounded to codes; masked-off lanes 0."""

_I16 = ir.IntType(16)
_CONVERT = {4: "sse2.cvtps2dq", 8: "avx.cvt.ps2dq.256"}
_TO_WORDS = {4: "sse2.packssdw.128", 8: "avx2.packssdw", 16: "avx512.packssdw.512"}
_TO_BYTES = {4: "sse2.packsswb.128", 8: "avx2.packsswb", 16: "avx512.packsswb.512"}


@dataclass(frozen=True)
class Split:
    """Columns that are kept out: ``keep`` i32 [K, filled up to steps], 0 for them and -1 for the
    others; ``channels`` i32 [count] their numbers; ``tail``: where their bf16 go, 64 bytes a row.
    """

    keep: ir.Value
    channels: ir.Value
    count: int
    tail: ir.Value


@dataclass(frozen=True)
class Copies:
    """``count`` further columns, a multiple of STEP: ``inverse`` f32 [K, filled up to steps], 1 / c
    of each column; ``channels`` i32 [count]: copies of which columns; ``low``, ``high`` i32
    [count]: what the ones before a copy take of q."""

    inverse: ir.Value
    channels: ir.Value
    low: ir.Value
    high: ir.Value
    count: int


@dataclass(frozen=True)
class Rows:
    """Rows of A: element (0, 0), elements from row to row, columns, format in memory."""

    base: ir.Value
    stride: Int
    k: int
    stored: str = formats.F32_FORMAT

    def at(self, code: Code, row: Int, column: Int = 0) -> ir.Value:
        """Address of an element."""
        kind = formats.ELEMENT[self.stored]
        return code.at(code.at(self.base, code.mul(row, self.stride), kind), column, kind)


Prepare = Callable[[Code, Rows, Int], Rows]
"""(code, up to 16 rows, how many) -> what is read in their place."""


def emit_rows(
    code: Code,
    d: Dots,
    a: Rows,
    rows: Int,
    out: ir.Value,
    scales: ir.Value,
    factors: ir.Value,
    apart: Split | Copies | None = None,
    signed: ir.Value | None = None,
    prepare: Prepare | None = None,
) -> None:
    """Quantize ``rows`` rows; ``scales`` [rows] f32 get the scales; ``factors``: room for 16
    f32. The block has the steps of the columns, then those of copies.

    A row whose greatest magnitude is below LEAST has the scale 0; one with NaN or infinity the
    scale NaN. signed: an i1, whether the block holds s8 whatever `Dots` says (512-bit vectors
    only). prepare: what is done to 16 rows first.
    """
    split = apart if isinstance(apart, Split) else None
    depth = steps(a.k) * STEP + (apart.count if isinstance(apart, Copies) else 0)
    with code.loop(0, rows, ROWS) as tile:
        size = code.min(code.sub(rows, tile.index), ROWS)
        own = Rows(a.at(code, tile.index), a.stride, a.k, a.stored)
        own = prepare(code, own, size) if prepare is not None else own
        found = code.at(scales, tile.index)
        with code.loop(0, size) as row:
            most = _greatest(code, own, own.at(code, row.index), apart)
            keep_scale(code, most, code.at(found, row.index), code.at(factors, row.index))
        target = line(code, d, out, tile.index, depth)

        def read(row: Int, own: Rows = own) -> Element:
            source = own.at(code, row)
            factor = code.splat(code.load(code.at(factors, row)), d.lanes)

            def element(column: Int, mask: ir.Value | None) -> ir.Value:
                bits = _load(code, own, source, column, mask, split)
                return code.b.fmul(code.b.bitcast(bits, factor.type), factor)

            return element

        round_rows(code, d, a.k, size, target, read, signed)
        if isinstance(apart, Copies):
            _round_copies(code, d, own, size, factors, target, apart, signed)
        if split is not None:
            with code.loop(0, size) as row:
                number = code.add(tile.index, row.index)
                tail = code.at(split.tail, code.mul(number, 2 * TAIL), I8)
                _tail(code, own, own.at(code, row.index), split, tail)


def keep_scale(code: Code, most: ir.Value, scale: ir.Value, factor: ir.Value) -> None:
    """The scale of a row with this greatest magnitude, and by what it is multiplied."""
    tiny = code.b.fcmp_ordered("<", most, ir.Constant(F32, LEAST))
    zero, top = ir.Constant(F32, 0.0), ir.Constant(F32, 127.0)
    found = code.b.select(tiny, zero, code.b.fdiv(most, top))
    # Infinite less itself is NaN, finite less itself nothing.
    code.store(code.b.fadd(found, code.b.fsub(most, most)), scale)
    code.store(code.b.select(tiny, zero, code.b.fdiv(top, most)), factor)


def _load(
    code: Code, a: Rows, source: ir.Value, column: Int, mask: ir.Value | None, split: Split | None
) -> ir.Value:
    """Bits of the elements from ``column`` on, those kept out as zeros."""
    lanes = code.target.lanes_f32
    place = code.at(source, column, formats.ELEMENT[a.stored])
    bits = bits_of(code, place, lanes, mask, a.stored)
    if split is None:
        return bits
    keep = code.vload(code.at(split.keep, column, I32), lanes, element=I32)
    return code.b.and_(bits, keep)


def _greatest(code: Code, a: Rows, source: ir.Value, apart: Split | Copies | None) -> ir.Value:
    """max |x| (or |x / c|) of a row, NaN if there is one."""
    split = apart if isinstance(apart, Split) else None

    def element(column: Int, mask: ir.Value | None) -> ir.Value:
        found = _load(code, a, source, column, mask, split)
        if isinstance(apart, Copies):
            part = code.vload(code.at(apart.inverse, column), code.target.lanes_f32)
            value = code.b.fmul(code.b.bitcast(found, part.type), part)
            found = code.b.bitcast(value, found.type)
        return found

    return greatest(code, a.k, element)


def greatest(code: Code, k: int, element: Element) -> ir.Value:
    """max |x| of a row of ``k`` elements, NaN if there is one; ``element``: their bits."""
    lanes = code.target.lanes_f32
    bits = ir.VectorType(I32, lanes)
    clear = ir.Constant(bits, [0x7FFFFFFF] * lanes)

    # The bits of magnitudes are in the order of their values, NaN above all.
    def larger(x: ir.Value, column: Int, mask: ir.Value | None = None) -> ir.Value:
        y = code.b.and_(element(column, mask), clear)
        return code.b.select(code.b.icmp_unsigned(">", x, y), x, y)

    chains = STEP // lanes
    with code.loop(0, k // STEP * STEP, STEP, [zeros(bits)] * chains) as step:
        step.next = [larger(x, code.add(step.index, i * lanes)) for i, x in enumerate(step.carried)]
    found = list(step.carried)
    for i, column in enumerate(range(k // STEP * STEP, k, lanes)):
        mask = code.first_lanes(k - column, lanes) if k - column < lanes else None
        found[i] = larger(found[i], column, mask)
    most = found[0]
    for other in found[1:]:
        most = code.b.select(code.b.icmp_unsigned(">", most, other), most, other)
    kind = ir.FunctionType(I32, [bits])
    name = f"llvm.vector.reduce.umax.v{lanes}i32"
    return code.b.bitcast(code.b.call(code.declare(name, kind), [most]), F32)


def round_rows(
    code: Code,
    d: Dots,
    k: int,
    rows: Int,
    out: ir.Value,
    read: Callable[[Int], Element],
    signed: ir.Value | None,
) -> None:
    """Up to 16 rows of ``k`` columns into a row of tiles, step by step, which writes lines in order
    of memory. ``read``: of a row, what gives its quotients."""
    lanes = d.lanes

    def step(row: Int, index: Int, count: int) -> None:
        element = read(row)
        target = code.at(of_step(code, d, out, index), code.mul(row, d.row_bytes), I8)
        for first in range(0, STEP, 4 * lanes):
            quantized = []
            for at in range(first, first + 4 * lanes, lanes):
                if at >= count:
                    quantized.append(zeros(ir.VectorType(I32, lanes)))
                    continue
                mask = code.first_lanes(count - at, lanes) if count < at + lanes else None
                column = code.add(code.mul(index, STEP), at)
                quantized.append(integers(code, element(column, mask)))
            _keep(code, d, quantized, target, first, signed)

    with code.loop(0, k // STEP) as whole, code.loop(0, rows) as row:
        step(row.index, whole.index, STEP)
    if k % STEP:
        with code.loop(0, rows) as row:
            step(row.index, k // STEP, k % STEP)


def _keep(
    code: Code,
    d: Dots,
    integers: Sequence[ir.Value],
    target: ir.Value,
    first: int,
    signed: ir.Value | None,
) -> None:
    """Four vectors of i32 as bytes from ``first`` on of a line."""
    value = to_bytes(code, integers)
    if signed is None:
        put(code, d, value, True, target, first)
        return
    bit = code.b.select(signed, ir.Constant(I8, 0), ir.Constant(I8, -128))
    flip = code.splat(bit, 4 * d.lanes)
    code.vstore(code.b.xor(value, flip), code.at(target, first, I8))


def _round_copies(
    code: Code,
    d: Dots,
    a: Rows,
    rows: Int,
    factors: ir.Value,
    out: ir.Value,
    apart: Copies,
    signed: ir.Value | None,
) -> None:
    """The steps of copies of up to 16 rows."""
    lanes = d.lanes
    with code.loop(0, rows) as row:
        source = a.at(code, row.index)
        factor = code.splat(code.load(code.at(factors, row.index)), lanes)
        for first in range(0, apart.count, 4 * lanes):
            quantized = [
                _copies(code, a, source, factor, apart, first + i * lanes) for i in range(4)
            ]
            target = of_step(code, d, out, steps(a.k) + first // STEP)
            target = code.at(target, code.mul(row.index, d.row_bytes), I8)
            _keep(code, d, quantized, target, first % STEP, signed)


def _copies(
    code: Code, a: Rows, source: ir.Value, factor: ir.Value, copies: Copies, first: int
) -> ir.Value:
    """i32 of copies from ``first`` on, to be cut off at the limits of s8."""
    lanes = factor.type.count
    value = zeros(factor.type)
    element = formats.ELEMENT[a.stored]
    # One by one: there are fewer instructions to it than to gathering vectors.
    for i in range(lanes):
        channel = code.load(code.at(copies.channels, first + i, I32), I32)
        one = code.load(code.at(source, code.b.zext(channel, I64), element), element)
        if a.stored == formats.BF16_FORMAT:
            one = code.b.shl(code.b.zext(one, I32), ir.Constant(I32, 16))
            one = code.b.bitcast(one, F32)
        value = code.b.insert_element(value, one, ir.Constant(I32, i))
    whole = integers(code, code.b.fmul(value, factor))
    low, high = (
        code.vload(code.at(table, first, I32), lanes, element=I32)
        for table in (copies.low, copies.high)
    )
    taken = code.b.select(code.b.icmp_signed("<", whole, low), low, whole)
    taken = code.b.select(code.b.icmp_signed(">", taken, high), high, taken)
    return code.b.sub(whole, taken)


def to_bytes(code: Code, wide: Sequence[ir.Value]) -> ir.Value:
    """Four vectors of i32 as one of s8, cut off at its limits."""
    lanes = wide[0].type.count
    if not code.target.triple.startswith("x86_64"):
        return _plain_bytes(code, wide)
    words = ir.VectorType(_I16, 2 * lanes)
    kind = ir.FunctionType(words, [wide[0].type] * 2)
    to_words = code.declare(f"llvm.x86.{_TO_WORDS[lanes]}", kind)
    low, high = (code.b.call(to_words, wide[i : i + 2]) for i in (0, 2))
    kind = ir.FunctionType(ir.VectorType(I8, 4 * lanes), [words] * 2)
    to_bytes = code.declare(f"llvm.x86.{_TO_BYTES[lanes]}", kind)
    found = code.b.call(to_bytes, [low, high])
    groups = lanes // 4  # of 128 bits: each was packed by itself
    if groups == 1:
        return found
    quads = code.b.bitcast(found, wide[0].type)
    order = [i % groups * 4 + i // groups for i in range(lanes)]
    picked = code.b.shuffle_vector(quads, quads, ir.Constant(wide[0].type, order))
    return code.b.bitcast(picked, found.type)


def integers(code: Code, value: ir.Value) -> ir.Value:
    """f32 to i32, to even, on x86 in one instruction; NaN becomes anything."""
    lanes = value.type.count
    kind = ir.VectorType(I32, lanes)
    if not code.target.triple.startswith("x86_64"):
        whole = code.intrinsic("roundeven", value)
        ordered = code.b.fcmp_ordered("ord", whole, whole)
        return code.b.fptosi(code.b.select(ordered, whole, zeros(whole.type)), kind)
    if lanes in _CONVERT:
        fn = code.declare(f"llvm.x86.{_CONVERT[lanes]}", ir.FunctionType(kind, [value.type]))
        return code.b.call(fn, [value])
    mask = ir.IntType(lanes)
    name = "llvm.x86.avx512.mask.cvtps2dq.512"
    fn = code.declare(name, ir.FunctionType(kind, [value.type, kind, mask, I32]))
    current = ir.Constant(I32, 4)  # as MXCSR says: to even
    return code.b.call(fn, [value, zeros(kind), ir.Constant(mask, -1), current])


def _plain_bytes(code: Code, parts: Sequence[ir.Value]) -> ir.Value:
    narrow_ = []
    for part in parts:
        low, high = (ir.Constant(part.type, [x] * part.type.count) for x in (-128, 127))
        part = code.b.select(code.b.icmp_signed("<", part, low), low, part)
        part = code.b.select(code.b.icmp_signed(">", part, high), high, part)
        narrow_.append(code.b.trunc(part, ir.VectorType(I8, part.type.count)))
    while len(narrow_) > 1:
        count = narrow_[0].type.count
        order = ir.Constant(ir.VectorType(I32, 2 * count), list(range(2 * count)))
        pairs = zip(narrow_[::2], narrow_[1::2], strict=True)
        narrow_ = [code.b.shuffle_vector(x, y, order) for x, y in pairs]
    return narrow_[0]


def _tail(code: Code, a: Rows, source: ir.Value, split: Split, out: ir.Value) -> None:
    """The columns kept out as 32 bf16, zeros behind them."""
    element = formats.ELEMENT[a.stored]
    size = formats.BYTES[a.stored]
    # One by one to memory first: there are fewer instructions to it than to gathering vectors.
    room = code.at(out, 0, I8)
    taken = []
    for i in range(split.count):
        channel = code.b.zext(code.load(code.at(split.channels, i, I32), I32), I64)
        taken.append(code.load(code.at(source, channel, element), element))
    if size == 2:
        for i in range(TAIL):
            value = taken[i] if i < split.count else ir.Constant(_I16, 0)
            code.store(value, code.at(room, 2 * i, I8))
        return
    lanes = min(code.target.lanes_f32, TAIL)
    for first in range(0, TAIL, lanes):
        value = zeros(ir.VectorType(F32, lanes))
        for i in range(first, min(first + lanes, split.count)):
            value = code.b.insert_element(value, taken[i], ir.Constant(I32, i - first))
        code.vstore(narrow(code, value), code.at(room, 2 * first, I8))

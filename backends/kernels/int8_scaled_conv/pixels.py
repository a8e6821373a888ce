"""Codes of the pixels that a block of output pixels sees.

Pixels are quantized once, however many taps meet them: whole lines along the first axis, from the
first one that a tap of the first output pixel meets to the last one of the last.
"""

from __future__ import annotations

from dataclasses import dataclass

from llvmlite import ir

from tilewright.backends.kernels.f32_conv.geometry import Geometry
from tilewright.backends.llvm import formats
from tilewright.backends.llvm.builder import F32, I8, Code, Int, zeros
from tilewright.backends.llvm.int8 import Dots
from tilewright.backends.llvm.int8_rows import integers, to_bytes
from tilewright.backends.llvm.rounding import bits_of

_LOW, _HIGH = -128.0, 127.0


@dataclass(frozen=True)
class Lines:
    """Lines along the first axis, counted over all images: ``count`` from ``first`` on, of
    ``words`` elements of the geometry's X each."""

    first: Int
    count: Int
    words: Int

    @classmethod
    def of(cls, code: Code, g: Geometry, start: Int, rows: Int) -> Lines:
        """Those that ``rows`` > 0 output pixels from ``start`` on see."""
        spec = g.spec
        reach = (spec.kernel[0] - 1) * spec.dilations[0] + 1
        words: Int = spec.channels
        for size in g.inputs[1:]:
            words = code.mul(words, size)
        ends = []
        for pixel, more in ((start, 0), (code.sub(code.add(start, rows), 1), reach)):
            image, line, *_ = g.decode(code, pixel)
            place = code.add(code.mul(line, spec.strides[0]), more - spec.pads[0])
            place = code.max(code.min(place, g.inputs[0]), 0)
            ends.append(code.add(code.mul(image, g.inputs[0]), place))
        return cls(ends[0], code.sub(ends[1], ends[0]), words)


def emit_codes(
    code: Code,
    d: Dots,
    source: ir.Value,
    stored: str,
    count: Int,
    out: ir.Value,
    how: tuple[ir.Value, ir.Value, ir.Value],
) -> ir.Value:
    """``count`` elements, in memory as ``stored``, as codes; up to 63 bytes behind them are
    written too. Gives an f32 that is NaN where an element is not finite.

    how: what elements are multiplied by, their zero point (f32), what codes are xor-ed with (i8).
    """
    lanes, element = d.lanes, formats.ELEMENT[stored]
    factor, zero = (code.splat(x, lanes) for x in how[:2])
    flip = code.splat(how[2], 4 * lanes, I8)
    low, high = (code.splat(x, lanes) for x in (_LOW, _HIGH))
    none = zeros(code.vector(lanes))

    def quantized(place: Int, mask: ir.Value | None) -> tuple[ir.Value, ir.Value]:
        bits = bits_of(code, code.at(source, place, element), lanes, mask, stored)
        value = code.b.bitcast(bits, none.type)
        found = code.b.fadd(code.b.fmul(value, factor), zero)
        found = code.b.select(code.b.fcmp_ordered("<", found, high), found, high)
        found = code.b.select(code.b.fcmp_ordered(">", found, low), found, low)
        return integers(code, found), value

    def four(place: Int, odd: list[ir.Value], masked: bool) -> list[ir.Value]:
        parts, after = [], []
        for i in range(4):
            at = code.add(place, i * lanes)
            mask = code.first_lanes(code.sub(count, at), lanes) if masked else None
            whole, value = quantized(at, mask)
            parts.append(whole)
            after.append(code.fma(value, none, odd[i]))  # NaN for what is not finite
        code.vstore(code.b.xor(to_bytes(code, parts), flip), code.at(out, place, I8))
        return after

    edge = code.mul(code.div(count, 4 * lanes), 4 * lanes)
    with code.loop(0, edge, 4 * lanes, [none] * 4) as step:
        step.next = four(step.index, step.carried, False)
    with code.loop(edge, count, 4 * lanes, step.carried) as rest:
        rest.next = four(rest.index, rest.carried, True)
    total = rest.carried[0]
    for other in rest.carried[1:]:
        total = code.b.fadd(total, other)
    return _sum(code, total)


def emit_not_finite(
    code: Code, g: Geometry, x: ir.Value, stored: str, start: Int, rows: Int, scales: ir.Value
) -> None:
    """Make the scales of those of ``rows`` output pixels NaN that see an element of X that is not
    finite. ``g``: of words of four elements."""
    spec = g.spec
    element = formats.ELEMENT[stored]
    none = zeros(code.vector(4))
    with code.loop(0, rows, 1, g.decode(code, start)) as row:
        at = list(row.carried)
        corner, scale = g.corner(code, at), code.at(scales, row.index)
        with code.loop(0, spec.taps) as tap:
            here, number = list(corner), tap.index
            for axis in reversed(range(spec.rank)):
                taps, dilation = spec.kernel[axis], spec.dilations[axis]
                here[axis] = code.add(here[axis], code.mul(code.rem(number, taps), dilation))
                number = code.div(number, taps)
            inside = code.cmp("==", 0, 0)
            for axis, i in enumerate(here):
                inside = code.b.and_(inside, g.inside(code, axis, i))
            with code.when(inside):
                pixel = code.mul(g.offset(code, at[0], here), 4)
                with code.loop(0, 4 * spec.channels, 4) as channel:
                    place = code.at(x, code.add(pixel, channel.index), element)
                    bits = bits_of(code, place, 4, None, stored)
                    value = code.b.fmul(code.b.bitcast(bits, none.type), none)
                    code.store(code.b.fadd(code.load(scale), _sum(code, value)), scale)
        row.next = g.advance(code, at)


def _sum(code: Code, values: ir.Value) -> ir.Value:
    """Of all lanes, in order."""
    total = ir.Constant(F32, 0.0)
    for i in range(values.type.count):
        total = code.b.fadd(total, code.b.extract_element(values, ir.Constant(ir.IntType(32), i)))
    return total

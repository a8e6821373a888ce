"""The block of A of a convolution, tap by tap: where channels are whole steps of 64, what a tap of
an output pixel sees is as many lines of the block, copied from the codes of the pixels."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

from llvmlite import ir

from tilewright.backends.kernels.f32_conv.geometry import Geometry
from tilewright.backends.llvm.builder import I8, Code, Int
from tilewright.backends.llvm.int8 import STEP, Dots
from tilewright.backends.llvm.int8_block import line, of_step, put


def emit_taps(
    code: Code,
    d: Dots,
    g: Geometry,
    codes: ir.Value,
    outside: ir.Value,
    start: Int,
    rows: Int,
    out: ir.Value,
) -> None:
    """Rows of a block of int8_block for ``rows`` output pixels from ``start`` on.

    ``g``: of words of four codes; ``codes``: that of element 0 of X; ``outside``: a vector of what
    lies beside it. Codes are as the block holds them.
    """
    spec = g.spec
    lines = 4 * spec.channels // STEP
    # Taps side by side along the last axis lie side by side in memory, if none is left out.
    inner = spec.kernel[-1]
    width = inner if spec.dilations[-1] == 1 else 1
    runs = list(product(*(range(k) for k in spec.kernel[:-1]), range(0, inner, width)))
    with code.loop(0, rows, 1, g.decode(code, start)) as row:
        at = list(row.carried)
        corner = g.corner(code, at)
        target = line(code, d, out, row.index, 4 * spec.channels * spec.taps)
        for number, taps in enumerate(runs):
            here = [
                code.add(c, t * step)
                for c, t, step in zip(corner, taps, spec.dilations, strict=True)
            ]
            left = here[-1]
            low = code.max(code.min(code.sub(0, left), width), 0)
            high = code.max(code.min(code.sub(g.inputs[-1], left), width), low)
            for axis, i in enumerate(here[:-1]):
                there = g.inside(code, axis, i)
                low, high = code.select(there, low, 0), code.select(there, high, 0)
            source = code.at(codes, g.offset(code, at[0], here))
            first = of_step(code, d, target, number * width * lines)

            def copied(step: Int, source: ir.Value = source) -> Callable[[int], ir.Value]:
                place = code.at(source, code.mul(step, STEP), I8)
                return lambda at: code.vload(code.at(place, at, I8), 4 * d.lanes, element=I8)

            def beside(_step: Int) -> Callable[[int], ir.Value]:
                return lambda _at: outside

            begin, end = code.mul(low, lines), code.mul(high, lines)
            parts = ((0, begin, beside), (begin, end, copied), (end, width * lines, beside))
            for low_, high_, read in parts:
                with code.loop(low_, high_) as step:
                    _put_line(code, d, read(step.index), of_step(code, d, first, step.index))
        row.next = g.advance(code, at)


def _put_line(code: Code, d: Dots, read: Callable[[int], ir.Value], out: ir.Value) -> None:
    """64 codes, which are held already but for their width."""
    width = 4 * d.lanes
    values = [read(at) for at in range(0, STEP, width)]
    for i, value in enumerate(values):
        put(code, d, value, d.held != "u8", out, i * width)

"""Depthwise convolution: one filter a channel, vectorized along channels.

For each output pixel a table of tap addresses is made once (a row of zeros stands for padding),
then every block of channels runs through it.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

from llvmlite import ir

from tilewright.backends.kernels.f32_conv.frame import Conv
from tilewright.backends.kernels.f32_conv.geometry import Geometry
from tilewright.backends.kernels.f32_conv.spec import ConvSpec, table_bytes
from tilewright.backends.llvm import epilogue as epilogues
from tilewright.backends.llvm.builder import I8, PTR, Code, Int, zeros
from tilewright.backends.llvm.epilogue import Operand
from tilewright.backends.llvm.frame import Frame, Split
from tilewright.backends.llvm.microkernel import PANEL

BLOCK = 4
"""Accumulators of one channel block: enough for the FMA latency, and the table is read once
for four vectors."""


def emit_depthwise(frame: Frame, conv: Conv) -> None:
    """The body of a depthwise kernel."""
    code, scratch, g = frame.code, frame.scratch, conv.g
    spec = g.spec
    zero_row = code.at(scratch, table_bytes(spec), I8)
    with code.loop(0, spec.channels) as i:
        code.store(zeros(ir.FloatType()), code.at(zero_row, i.index))
    split = Split.of(code, g.pixels, spec.rows_per_unit)
    with code.loop(frame.begin, frame.end) as unit:
        first, rows = split.block(code, unit.index)
        with code.loop(0, rows, 1, g.decode(code, first)) as row:
            at = list(row.carried)
            _fill_table(code, g, conv.x, zero_row, scratch, at)
            pixel = code.add(first, row.index)
            out = conv.result(code, pixel, 0)
            _channels(code, spec, conv.w, scratch, out, conv.operands, pixel)
            row.next = g.advance(code, at)


def _fill_table(
    code: Code,
    g: Geometry,
    x: ir.Value,
    zero_row: ir.Value,
    table: ir.Value,
    at: Sequence[ir.Value],
) -> None:
    spec = g.spec
    corner = g.corner(code, at)
    axes = range(spec.rank)
    inside = [
        [g.inside(code, a, code.add(corner[a], t * spec.dilations[a])) for t in _ends(spec, a)]
        for a in axes
    ]
    whole = _all(code, [ok for axis in inside for ok in axis])
    taps = list(enumerate(product(*(range(k) for k in spec.kernel))))

    def address(tap: tuple[int, ...]) -> ir.Value:
        here = [code.add(corner[a], tap[a] * spec.dilations[a]) for a in axes]
        return code.at(x, g.offset(code, at[0], here))

    with code.either(whole) as (interior, border):
        with interior:
            for number, tap in taps:
                code.store(address(tap), code.at(table, number, PTR))
        with border:
            for number, tap in taps:
                valid = _all(
                    code,
                    [
                        g.inside(code, a, code.add(corner[a], tap[a] * spec.dilations[a]))
                        for a in axes
                    ],
                )
                code.store(
                    code.b.select(valid, address(tap), zero_row), code.at(table, number, PTR)
                )


def _ends(spec: ConvSpec, axis: int) -> tuple[int, int]:
    return 0, spec.kernel[axis] - 1


def _all(code: Code, conditions: Sequence[ir.Value]) -> ir.Value:
    result = conditions[0]
    for condition in conditions[1:]:
        result = code.b.and_(result, condition)
    return result


def _channels(
    code: Code,
    spec: ConvSpec,
    weights: ir.Value,
    table: ir.Value,
    out: ir.Value,
    operands: Sequence[Operand],
    pixel: Int,
) -> None:
    lanes = code.target.lanes_f32
    block = min(BLOCK * lanes, PANEL)

    def run(channel: Int, count: int) -> None:
        """``count`` channels, at most a block, from ``channel`` (a multiple of the block)."""
        vectors = -(-count // lanes)
        masks = [
            None if (v + 1) * lanes <= count else code.first_lanes(count - v * lanes, lanes)
            for v in range(vectors)
        ]
        acc = [zeros(code.vector(lanes))] * vectors
        panel = code.mul(code.div(channel, PANEL), spec.taps * PANEL)
        filters = code.at(code.at(weights, panel), code.rem(channel, PANEL))
        for tap in range(spec.taps):
            source = code.at(code.load(code.at(table, tap, PTR), PTR), channel)
            for v in range(vectors):
                value = code.vload(code.at(source, v * lanes), lanes, masks[v])
                weight = code.vload(code.at(filters, tap * PANEL + v * lanes), lanes)
                acc[v] = code.fma(value, weight, acc[v])
        for v in range(vectors):
            column = code.add(channel, v * lanes)
            result = epilogues.emit(code, spec.epilogue, acc[v], operands, pixel, column, masks[v])
            code.vstore(result, code.at(out, column), masks[v])

    full = spec.channels // block * block
    with code.loop(0, full, block) as channel:
        run(channel.index, block)
    if spec.channels > full:
        run(full, spec.channels - full)

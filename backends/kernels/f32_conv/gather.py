"""Gathers the receptive fields of a block of output pixels as rows of a matrix.

Along the innermost axis the taps of one pixel are contiguous in channels-last memory (dilation 1,
one group), so a row is KD*KH runs of KW*C floats: 7 copies of 21 floats for a 7x7 filter of an RGB
image. The block lives in L2 and is read by every panel of weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

from llvmlite import ir

from tilewright.backends.kernels.f32_conv.geometry import Geometry
from tilewright.backends.llvm.builder import Code, Int, i64, zeros


def emit_gather(
    code: Code,
    g: Geometry,
    x: ir.Value,
    into: ir.Value,
    first: Int,
    rows: Int,
    group: Int,
    fill: ir.Value | None = None,
) -> None:
    """Write ``rows`` rows of ``spec.k`` floats, ``spec.row_stride`` apart, from pixel ``first``.

    Requires 16 floats of slack after the last row. ``fill``: a vector of what lies outside of X,
    all lanes alike; zeros without one.
    """
    spec = g.spec
    start = g.decode(code, first)
    with code.loop(0, rows, 1, start) as row:
        at = list(row.carried)
        corner = g.corner(code, at)
        out = code.at(into, code.mul(row.index, spec.row_stride))
        channel = code.mul(group, spec.group_channels)
        run = spec.kernel[-1] * spec.group_channels
        for number, taps in enumerate(product(*(range(k) for k in spec.kernel[:-1]))):
            here = [
                code.add(c, t * d) for c, t, d in zip(corner, taps, spec.dilations, strict=False)
            ]
            valid = [g.inside(code, axis, i) for axis, i in enumerate(here)]
            target = code.at(out, number * run)
            if spec.dilations[-1] == 1 and spec.groups == 1:
                _contiguous_run(code, g, x, target, at[0], here, corner[-1], valid, fill)
            else:
                left = corner[-1]
                _separate_taps(code, g, x, target, at[0], here, left, valid, channel, fill)
        row.next = g.advance(code, at)


def _contiguous_run(
    code: Code,
    g: Geometry,
    x: ir.Value,
    out: ir.Value,
    n: ir.Value,
    outer: Sequence[Int],
    left: Int,
    valid: Sequence[ir.Value],
    fill: ir.Value | None,
) -> None:
    """All taps of the innermost axis at once, cut where they leave the image."""
    spec = g.spec
    taps, c = spec.kernel[-1], spec.channels
    low = code.max(code.min(code.sub(0, left), taps), 0)
    high = code.max(code.min(code.sub(g.inputs[-1], left), taps), 0)
    for ok in valid:
        high = code.select(ok, high, 0)
    whole = code.b.and_(code.cmp("==", low, 0), code.cmp("==", high, taps))
    with code.either(whole) as (inside, border):
        with inside:
            source = code.at(x, g.offset(code, n, [*outer, left]))
            copy_constant(code, out, source, taps * c)
        with border:
            copy_constant(code, out, None, taps * c, fill)
            with code.when(code.cmp("<", low, high)):
                source = code.at(x, g.offset(code, n, [*outer, code.add(left, low)]))
                count = code.mul(code.sub(high, low), c)
                _copy_run_time(code, code.at(out, code.mul(low, c)), source, count)


def _separate_taps(
    code: Code,
    g: Geometry,
    x: ir.Value,
    out: ir.Value,
    n: ir.Value,
    outer: Sequence[Int],
    left: Int,
    valid: Sequence[ir.Value],
    channel: Int,
    fill: ir.Value | None,
) -> None:
    """Tap by tap, for dilated or grouped filters."""
    spec = g.spec
    for tap in range(spec.kernel[-1]):
        i = code.add(left, tap * spec.dilations[-1])
        inside = g.inside(code, spec.rank - 1, i)
        for ok in valid:
            inside = code.b.and_(inside, ok)
        target = code.at(out, tap * spec.group_channels)
        with code.either(inside) as (there, padding):
            with there:
                source = code.at(x, code.add(g.offset(code, n, [*outer, i]), channel))
                copy_constant(code, target, source, spec.group_channels)
            with padding:
                copy_constant(code, target, None, spec.group_channels, fill)


def copy_constant(
    code: Code, out: ir.Value, source: ir.Value | None, count: int, fill: ir.Value | None = None
) -> None:
    """Copy ``count`` floats, without a source those of the vector ``fill`` or zeros; writes whole
    vectors, reads exactly."""
    lanes = code.target.lanes_f32
    same = zeros(code.vector(lanes)) if fill is None else fill

    def move(at: Int, mask: ir.Value | None) -> None:
        value = same if source is None else code.vload(code.at(source, at), lanes, mask)
        code.vstore(value, code.at(out, at))

    full = count // lanes * lanes
    unrolled = full if full <= 8 * lanes else full % (4 * lanes)
    with code.loop(0, full - unrolled, 4 * lanes) as block:
        for v in range(4):
            move(code.add(block.index, v * lanes), None)
    for at in range(full - unrolled, full, lanes):
        move(at, None)
    if count > full:
        move(full, code.first_lanes(count - full, lanes))


def _copy_run_time(code: Code, out: ir.Value, source: ir.Value, count: Int) -> None:
    """Copy ``count`` floats, writing no more than those."""
    lanes = code.target.lanes_f32
    full = code.mul(code.div(count, lanes), lanes)
    with code.loop(0, full, lanes) as at:
        code.vstore(code.vload(code.at(source, at.index), lanes), code.at(out, at.index))
    rest = code.sub(count, full)
    with code.when(code.cmp(">", rest, 0)):
        mask = code.first_lanes(rest, lanes)
        value = code.vload(code.at(source, full), lanes, mask)
        code.vstore(value, code.at(out, i64(full)), mask)

"""Direct computation of the outputs of a tile whose sums are not finite.

The transforms of an infinite input subtract infinities: outputs that do not even depend on it would
be NaN. The same holds for inputs so large that a transform overflows. Such tiles are rare; they are
computed again from the filters that the transformed ones stand for. U is rounded: of a zero weight
some 2^-21 of the filter's largest can remain, which an infinite input would make infinite and not
NaN. Weights that small count as zero for inputs that are not finite.
"""

from __future__ import annotations

from llvmlite import ir

from tilewright.backends.kernels.f32_winograd.tiles import At, Tiles
from tilewright.backends.llvm.builder import I64, PTR, VOID, Code, Loop, i64, zeros
from tilewright.backends.llvm.microkernel import PANEL

TINY = 2.0**-20
"""Of the largest element of U: bound of what rounding U leaves of a zero weight."""

_REDO = ir.FunctionType(VOID, [PTR, I64, PTR, I64, PTR])


def emit_redo(
    code: Code,
    tiles: Tiles,
    x: ir.Value,
    patch: ir.Value,
    at: At,
    filters: ir.Value,
    vector: Loop,
    values: list[ir.Value],
) -> list[ir.Value]:
    """``values``, the tile's 2x2 outputs of one vector of columns, computed directly if some are
    not finite. Overwrites ``patch``."""
    b, lanes = code.b, code.target.lanes_f32
    zero = code.splat(0.0, lanes)
    total = b.fmul(values[0], zero)
    for value in values[1:]:
        total = b.fadd(total, b.fmul(value, zero))
    bad = b.fcmp_unordered("uno", total, zero)
    kind = ir.IntType(lanes)
    some = b.icmp_unsigned("!=", b.bitcast(bad, kind), ir.Constant(kind, 0))
    before = b.block
    with b.if_then(some, likely=False):
        base, row_floats = tiles.pixels(code, x, patch, at)
        out = code.at(patch, tiles.spec.patch - 4 * lanes)
        fn = _function(code)
        panel = code.at(filters, vector.index)
        b.call(fn, [base, i64(row_floats), panel, i64(tiles.spec.channels), out])
        again = [code.vload(code.at(out, i * lanes), lanes) for i in range(4)]
        inner = b.block
    merged = []
    for value, other in zip(values, again, strict=True):
        phi = b.phi(value.type)
        phi.add_incoming(value, before)
        phi.add_incoming(other, inner)
        merged.append(phi)
    return merged


def _function(code: Code) -> ir.Function:
    """``void (pixels, floats from row to row of them, panel of filters, channels, 2x2 outputs)``,
    one vector of columns."""
    name = "tilewright_f32_winograd_redo"
    found = code.module.globals.get(name)
    if found is not None:
        return found
    fn = ir.Function(code.module, _REDO, name)
    fn.linkage = "internal"
    fn.attributes.add("noinline")
    fn.attributes.add("nounwind")
    code = Code(ir.IRBuilder(fn.append_basic_block("entry")), code.target)
    pixels, row_floats, panel, channels, out = fn.args
    lanes = code.target.lanes_f32
    plane = code.mul(channels, PANEL)
    zero = zeros(code.vector(lanes))
    with code.loop(0, channels, 1, [zero] * 4) as channel:
        at = code.at(panel, code.mul(channel.index, PANEL))
        u = [
            [code.vload(code.at(at, code.mul(plane, 4 * i + j)), lanes) for j in range(4)]
            for i in range(4)
        ]
        b = code.b
        down = [
            u[0],
            [b.fsub(x, y) for x, y in zip(u[1], u[2], strict=True)],
            u[3],
        ]
        g = [[line[0], b.fsub(line[1], line[2]), line[3]] for line in down]
        largest = zero
        for value in (v for line in u for v in line):
            largest = _larger(code, largest, _larger(code, value, b.fneg(value)))
        least = b.fmul(largest, code.splat(TINY, lanes))
        kept = [
            [
                b.select(b.fcmp_ordered("<", _larger(code, v, b.fneg(v)), least), zero, v)
                for v in line
            ]
            for line in g
        ]
        totals = list(channel.carried)
        for i in range(4):
            row = code.at(pixels, code.mul(row_floats, i))
            for j in range(4):
                at = code.add(code.mul(channels, j), channel.index)
                value = code.splat(code.load(code.at(row, at)), lanes)
                finite = b.fcmp_ordered("ord", b.fmul(value, zero), zero)
                for y in range(max(0, i - 2), min(2, i + 1)):
                    for x in range(max(0, j - 2), min(2, j + 1)):
                        n = 2 * y + x
                        weight = b.select(finite, g[i - y][j - x], kept[i - y][j - x])
                        totals[n] = code.fma(value, weight, totals[n])
        channel.next = totals
    for n, total in enumerate(channel.carried):
        code.vstore(total, code.at(out, n * lanes))
    code.b.ret_void()
    return fn


def _larger(code: Code, x: ir.Value, y: ir.Value) -> ir.Value:
    return code.b.select(code.b.fcmp_ordered(">", x, y), x, y)

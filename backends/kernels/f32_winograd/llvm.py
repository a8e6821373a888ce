"""LLVM emitter of the Winograd convolution."""

from __future__ import annotations

from dataclasses import dataclass

from llvmlite import ir

from tilewright.backends.kernels.f32_conv.frame import Conv, units
from tilewright.backends.kernels.f32_winograd.redo import emit_redo
from tilewright.backends.kernels.f32_winograd.spec import MOST_ROWS, POSITIONS, WinogradSpec
from tilewright.backends.kernels.f32_winograd.tiles import Tiles
from tilewright.backends.kernels.f32_winograd.transforms import input_transform, output_transform
from tilewright.backends.llvm import epilogue as epilogues
from tilewright.backends.llvm import gemm
from tilewright.backends.llvm.builder import Code, Int
from tilewright.backends.llvm.epilogue import Operand
from tilewright.backends.llvm.frame import Frame, Split
from tilewright.backends.llvm.microkernel import PANEL, widest
from tilewright.backends.target import Target

SUMS = MOST_ROWS * PANEL
"""Floats of one position's sums."""


@dataclass(frozen=True)
class Kernel:
    """Run-time values of one kernel."""

    tiles: Tiles
    x: ir.Value
    w: ir.Value
    y: ir.Value
    ldy: ir.Value
    operands: tuple[Operand, ...]
    sums: ir.Value
    patch: ir.Value
    inputs: ir.Value

    @property
    def spec(self) -> WinogradSpec:
        return self.tiles.spec


def emit(module: ir.Module, spec: WinogradSpec, target: Target, name: str) -> ir.Function:
    """Add the kernel ``name`` for ``spec`` to ``module``."""
    frame = Frame.open(module, target, name)
    code, scratch = frame.code, frame.scratch
    conv = Conv.load(frame, spec, spec.epilogue)
    patch = code.at(scratch, POSITIONS * SUMS)
    k = Kernel(
        tiles=Tiles.of(code, conv.g),
        x=conv.x,
        w=conv.w,
        y=conv.y,
        ldy=conv.g.ldy,
        operands=conv.operands,
        sums=scratch,
        patch=patch,
        inputs=code.at(patch, spec.patch),
    )
    split = Split.of(code, k.tiles.total, spec.tiles_per_unit)
    # Units of one block of tiles follow each other: transformed once a thread. The filters pass
    # by, each panel asked for while the one before it is in use.
    with units(spec).each(code, frame.begin, frame.end) as unit:
        start, count = split.block(code, unit.block)
        with code.when(unit.fresh):
            _transform(code, k, start, count)
        rows = Split.of(code, count, widest(target).rows)
        with code.loop(unit.first, unit.last) as panel, code.loop(0, rows.count) as group:
            at, size = rows.block(code, group.index)
            filters = code.at(k.w, code.mul(panel.index, POSITIONS * spec.channels * PANEL))
            _multiply(code, k, at, size, filters, (group.index, rows.count))
            _finish(code, k, code.add(start, at), size, panel.index, filters)
    return frame.close()


def _transform(code: Code, k: Kernel, start: Int, count: Int) -> None:
    """``count`` tiles from ``start`` on to [position][tile][channel]."""
    spec, lanes = k.spec, code.target.lanes_f32
    with code.loop(0, count, 1, k.tiles.decode(code, start)) as tile:
        base, row_floats = k.tiles.pixels(code, k.x, k.patch, tile.carried)
        rows = [code.at(base, code.mul(row_floats, i)) for i in range(4)]
        out = code.at(k.inputs, code.mul(tile.index, spec.stride))

        def channels(first: Int, mask: ir.Value | None) -> None:
            square = [
                [
                    code.vload(code.at(row, code.add(first, j * spec.channels)), lanes, mask)
                    for j in range(4)
                ]
                for row in rows
            ]
            values = [v for line in input_transform(code, square) for v in line]
            for position, value in enumerate(values):
                at = code.add(first, position * spec.plane)
                code.vstore(value, code.at(out, at))

        full = spec.channels // lanes * lanes
        with code.loop(0, full, lanes) as block:
            channels(block.index, None)
        if spec.channels > full:
            channels(full, code.first_lanes(spec.channels - full, lanes))
        tile.next = k.tiles.advance(code, tile.carried)


def _multiply(
    code: Code, k: Kernel, first: Int, rows: Int, filters: ir.Value, turn: tuple[Int, Int]
) -> None:
    """Sums [position][tile][32] of ``rows`` tiles by one panel.

    Asks for a share of the same position in the next panel: ``turn`` of how many.
    """
    spec = k.spec
    step = gemm.columns(code)
    floats = spec.channels * PANEL
    number, turns = turn
    with code.loop(0, POSITIONS) as position, code.loop(0, PANEL, step) as part:
        at = code.add(code.mul(position.index, spec.plane), code.mul(first, spec.stride))
        a = code.at(k.inputs, at)
        panel = code.at(filters, code.mul(position.index, spec.channels * PANEL))
        b = code.at(panel, part.index)
        c = code.at(code.at(k.sums, code.mul(position.index, SUMS)), part.index)
        share = code.add(code.mul(code.div(part.index, step), turns), number)
        base = code.at(panel, POSITIONS * floats)
        all_turns = code.mul(turns, PANEL // step)
        ahead = gemm.Ahead.share(code, base, spec.channels, share, all_turns)
        args = (a, spec.stride, b, PANEL, floats, spec.channels, c, PANEL)
        gemm.multiply(code, rows, *args, ahead=ahead)


def _finish(code: Code, k: Kernel, start: Int, rows: Int, panel: Int, filters: ir.Value) -> None:
    """Sums to outputs, and the epilogue, for ``rows`` tiles by one panel."""
    spec, lanes = k.spec, code.target.lanes_f32
    height, width = k.tiles.outputs
    with code.loop(0, rows, 1, k.tiles.decode(code, start)) as tile:
        n, ty, tx = tile.carried
        sums = code.at(k.sums, code.mul(tile.index, PANEL))
        y, x = code.mul(ty, 2), code.mul(tx, 2)
        pixel = code.add(code.mul(code.add(code.mul(n, height), y), width), x)
        with code.loop(0, PANEL, lanes) as vector:
            source = code.at(sums, vector.index)
            square = [
                [code.vload(code.at(source, (4 * i + j) * SUMS), lanes) for j in range(4)]
                for i in range(4)
            ]
            values = [v for line in output_transform(code, square) for v in line]
            values = emit_redo(code, k.tiles, k.x, k.patch, tile.carried, filters, vector, values)
            column = code.add(code.mul(panel, PANEL), vector.index)
            mask = None
            if spec.out_channels % PANEL:
                mask = code.first_lanes(code.sub(spec.out_channels, column), lanes)
            for i, value in enumerate(values):
                down, right = divmod(i, 2)
                m = code.add(pixel, code.add(code.mul(width, down), right))

                def store(value: ir.Value, m: Int) -> None:
                    result = epilogues.emit(
                        code,
                        spec.epilogue,
                        value,
                        k.operands,
                        m,
                        column,
                        mask,
                    )
                    target = code.at(code.at(k.y, code.mul(m, k.ldy)), column)
                    code.vstore(result, target, mask)

                if i == 0:
                    store(value, m)
                    continue
                inside = code.b.and_(
                    code.cmp("<", code.add(y, down), height),
                    code.cmp("<", code.add(x, right), width),
                )
                with code.when(inside):
                    store(value, m)
        tile.next = k.tiles.advance(code, tile.carried)

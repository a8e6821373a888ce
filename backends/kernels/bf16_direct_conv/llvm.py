"""LLVM emitter of the direct bf16 convolution."""

from __future__ import annotations

from dataclasses import dataclass

from llvmlite import ir

from tilewright.backends.kernels.bf16_direct_conv.planes import Planes
from tilewright.backends.kernels.bf16_direct_conv.spec import (
    BLOCK_BYTES,
    Bf16DirectConvSpec,
)
from tilewright.backends.kernels.bf16_direct_conv.tiles import tap_kernel
from tilewright.backends.kernels.f32_conv.frame import Conv, units
from tilewright.backends.llvm import amx, bf16, bf16_gemm, formats
from tilewright.backends.llvm import epilogue as epilogues
from tilewright.backends.llvm.amx import ROWS
from tilewright.backends.llvm.bf16_block import STEP
from tilewright.backends.llvm.bf16_microkernel import PLANE_BYTES
from tilewright.backends.llvm.builder import I8, I64, Code, Int, i64
from tilewright.backends.llvm.epilogue import Operand
from tilewright.backends.llvm.frame import Frame
from tilewright.backends.llvm.microkernel import PANEL
from tilewright.backends.target import Target


def supports(target: Target) -> bool:
    """Targets with bf16 tiles."""
    return amx.has_bf16(target)


@dataclass(frozen=True)
class Block:
    """The output rows of one unit: ``a`` pixel 0 of the planes, ``b`` the group's panel 0, ``c``
    the first output, ``pixels`` those of ``columns`` a row and the dropped ones between rows;
    ``row`` and ``column`` of the epilogue's operands, ``tile`` a block of C in scratch."""

    spec: Bf16DirectConvSpec
    planes: Planes
    a: ir.Value
    offsets: ir.Value
    b: ir.Value
    c: ir.Value
    ldc: Int
    pixels: Int
    columns: Int
    tile: ir.Value
    operands: tuple[Operand, ...]
    row: Int
    column: Int


def emit(module: ir.Module, spec: Bf16DirectConvSpec, target: Target, name: str) -> ir.Function:
    """Add the kernel ``name`` for ``spec`` to ``module``."""
    if not supports(target):
        raise ValueError(f"target '{target.name}' has no bf16 tiles")
    frame = Frame.open(module, target, name)
    code, scratch = frame.code, frame.scratch
    conv = Conv.load(frame, spec, spec.epilogue)
    inputs, (height, columns) = conv.g.planar(conv.g.inputs), conv.g.planar(conv.g.outputs)

    # As spec.block_count: blocks of nearly equal numbers of rows.
    _, across = spec.reach
    each = len(spec.phases) * spec.matrix.planes * spec.pixel_bytes
    width = code.add(columns, across)
    most = code.div(i64(BLOCK_BYTES), code.mul(width, each))
    most = code.max(code.min(most, code.div(i64(spec.rows_per_unit), width)), 1)
    blocks = code.max(code.ceildiv(height, most), 1)
    most = code.ceildiv(height, blocks)
    planes = Planes.of(code, spec, inputs, most, columns)
    offsets = code.at(scratch, bf16_gemm.SCRATCH_BYTES, I8)
    a = code.at(offsets, spec.table_bytes, I8)
    for tap in range(spec.taps):
        code.store(i64(planes.offset(code, tap)), code.at(offsets, tap, I64))

    bytes_b = spec.panels * bf16_gemm.panel_bytes(spec.k, spec.matrix.planes)
    amx.configure(code)
    # Units of one block and group follow each other: its pixels are converted once a thread.
    with units(spec).each(code, frame.begin, frame.end) as unit:
        image = code.div(unit.block, blocks)
        first = code.mul(code.rem(unit.block, blocks), most)
        rows = code.min(code.sub(height, first), most)
        with code.when(code.cmp(">", rows, 0)):
            with code.when(unit.fresh):
                source = conv.pixel(
                    code,
                    code.mul(code.mul(image, inputs[0]), inputs[1]),
                    formats.ELEMENT[spec.x],
                )
                channel = code.mul(unit.group, spec.group_channels)
                planes.fill(code, source, channel, first, rows, a)
            row = code.mul(code.add(code.mul(image, height), first), columns)
            column = code.mul(unit.group, spec.group_outputs)
            block = Block(
                spec,
                planes,
                a=a,
                offsets=offsets,
                b=code.at(conv.w, code.mul(unit.group, bytes_b), I8),
                c=conv.result(code, row, column, formats.ELEMENT[spec.y]),
                ldc=conv.g.ldy,
                pixels=code.add(code.mul(code.sub(rows, 1), planes.width), columns),
                columns=columns,
                tile=scratch,
                operands=conv.operands,
                row=row,
                column=column,
            )
            _panels(code, block, unit.first, unit.last)
    amx.release(code)
    return frame.close()


def _panels(code: Code, p: Block, first: Int, last: Int) -> None:
    """Panel by panel, while the pixels pass; each pass asks for its share of the next panel."""
    spec, parts = p.spec, p.spec.matrix.planes
    bytes_b = bf16_gemm.panel_bytes(spec.k, parts)
    steps = spec.group_channels // STEP
    passes = code.ceildiv(p.pixels, 2 * ROWS)
    lines = i64(code.ceildiv(parts * PLANE_BYTES // 64, passes))
    with code.loop(first, last) as panel:
        b = code.at(p.b, code.mul(panel.index, bytes_b), I8)
        ahead = code.at(b, bytes_b, I8)
        share = code.mul(lines, 64 * spec.taps * steps)
        with code.loop(0, p.pixels, 2 * ROWS, [ahead, i64(0), i64(0)]) as start:
            ahead, x, done = start.carried
            size = code.min(code.sub(p.pixels, start.index), 2 * ROWS)
            a = code.at(p.a, code.mul(start.index, spec.pixel_bytes), I8)
            call = [a, p.offsets, i64(spec.taps), i64(steps), i64(spec.pixel_bytes)]
            call += [i64(p.planes.part), b, p.tile, ahead, lines]
            with code.either(code.cmp(">", size, ROWS)) as (two, one):
                with two:
                    code.b.call(tap_kernel(code, 2, spec.products), call)
                with one:
                    code.b.call(tap_kernel(code, 1, spec.products), call)
            x, done = _rows(code, p, panel.index, size, x, done)
            start.next = [code.at(ahead, share, I8), x, done]


def _rows(
    code: Code, p: Block, panel: Int, size: Int, x: ir.Value, done: ir.Value
) -> tuple[ir.Value, ir.Value]:
    """The epilogue of ``size`` pixels of the tile, the first in column ``x`` after ``done``
    outputs; pixels beyond the columns are dropped. Returns ``x`` and ``done`` after them."""
    spec = p.spec
    column, element = code.mul(panel, PANEL), formats.ELEMENT[spec.y]
    with code.loop(0, size, 1, [x, done]) as row:
        x, done = row.carried
        kept = code.cmp("<", x, p.columns)
        with code.when(kept):
            target = code.at(code.at(p.c, code.mul(done, p.ldc), element), column, element)
            for v in range(0, PANEL, bf16.LANES):
                at = code.add(column, v)
                mask = None
                if spec.group_outputs % PANEL:
                    mask = code.first_lanes(code.sub(spec.group_outputs, at), bf16.LANES)
                line = code.add(code.mul(row.index, PANEL), v)
                value = code.vload(code.at(p.tile, line), bf16.LANES)
                m, n = code.add(p.row, done), code.add(p.column, at)
                value = epilogues.emit(code, spec.epilogue, value, p.operands, m, n, mask)
                formats.store(code, value, code.at(target, v, element), mask, spec.y)
        after = i64(code.add(x, 1))
        row.next = [
            code.select(code.cmp("==", after, p.planes.width), 0, after),
            i64(code.add(done, code.b.zext(kept, I64))),
        ]
    return row.carried[0], row.carried[1]

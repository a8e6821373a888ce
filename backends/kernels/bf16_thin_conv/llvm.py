"""LLVM emitter of the bf16 convolution for few channels."""

from __future__ import annotations

from dataclasses import dataclass

from llvmlite import ir

from tilewright.backends.kernels.bf16_thin_conv.spec import LINE, Bf16ThinConvSpec
from tilewright.backends.kernels.f32_conv.frame import Conv, units
from tilewright.backends.llvm import bf16, bf16_gemm
from tilewright.backends.llvm.amx import ROW_BYTES, ROWS, TILE_BYTES
from tilewright.backends.llvm.bf16_block import STEP, row_tile_bytes
from tilewright.backends.llvm.builder import I8, Code, Int, i64
from tilewright.backends.llvm.frame import Frame
from tilewright.backends.target import Target

_I16 = ir.IntType(16)


def supports(target: Target) -> bool:
    """Targets with bf16 instructions on 512-bit vectors; AMX where they have it."""
    return bf16.has_dots(target)


@dataclass(frozen=True)
class Rows:
    """Rounded input rows in scratch: ``pitch`` bf16 values a row, ``part`` bytes of one bf16 part
    of all rows; ``height`` and ``width`` of the input."""

    spec: Bf16ThinConvSpec
    at: ir.Value
    pitch: Int
    part: Int
    height: Int
    width: Int


def emit(module: ir.Module, spec: Bf16ThinConvSpec, target: Target, name: str) -> ir.Function:
    """Add the kernel ``name`` for ``spec`` to ``module``."""
    if not supports(target):
        raise ValueError(f"target '{target.name}' has no bf16 instructions")
    frame = Frame.open(module, target, name)
    code, scratch = frame.code, frame.scratch
    conv = Conv.load(frame, spec, spec.epilogue)
    inputs, (height, columns) = conv.g.planar(conv.g.inputs), conv.g.planar(conv.g.outputs)

    # As spec.block_rows and block_count: blocks of nearly equal numbers of rows.
    (kh, sh, _, dh), (kw, sw, _, _) = spec.axes
    most = code.max(code.div(spec.rows_per_unit, code.max(columns, 1)), 1)
    blocks = code.max(code.ceildiv(height, most), 1)
    most = code.ceildiv(height, blocks)
    planes = spec.matrix.planes
    pitch = code.mul(code.add(code.mul(code.sub(columns, 1), sw), kw), spec.channels)
    lines = code.add(code.mul(code.sub(most, 1), sh), (kh - 1) * dh + 1)
    block_a = code.at(scratch, bf16_gemm.SCRATCH_BYTES, I8)
    tiles = code.ceildiv(code.mul(most, columns), ROWS)
    rounded = code.at(block_a, code.mul(tiles, row_tile_bytes(spec.matrix.k, planes)), I8)
    # The last row of a part overruns it.
    part = code.add(code.mul(code.mul(lines, pitch), 2), LINE)
    rows_of_x = Rows(spec, rounded, pitch, part, *inputs)

    bf16_gemm.begin(code, code.mul(most, columns))
    # Units of one block follow each other: its rows are rounded and gathered once a thread.
    with units(spec).each(code, frame.begin, frame.end) as unit:
        image = code.div(unit.block, blocks)
        first = code.mul(code.rem(unit.block, blocks), most)
        rows = code.min(code.sub(height, first), most)
        with code.when(code.cmp(">", rows, 0)):
            with code.when(unit.fresh):
                source = conv.pixel(code, code.mul(code.mul(image, inputs[0]), inputs[1]))
                _round(code, rows_of_x, source, first, rows)
                _gather(code, rows_of_x, rows, columns, block_a)
            row = code.mul(code.add(code.mul(image, height), first), columns)
            product = bf16_gemm.Product(
                a=block_a,
                b=conv.w,
                k=spec.matrix.k,
                products=spec.products,
                c=conv.result(code, row, 0),
                ldc=conv.g.ldy,
                n=spec.out_channels,
                tile=scratch,
                epilogue=spec.epilogue,
                operands=conv.operands,
                row=row,
            )
            bf16_gemm.emit_rows(code, product, code.mul(rows, columns), unit.first, unit.last)
    bf16_gemm.end(code, code.mul(most, columns))
    return frame.close()


def _round(code: Code, rows_of_x: Rows, image: ir.Value, first: Int, rows: Int) -> None:
    """The input rows of ``rows`` output rows from ``first`` on, in bf16, padding zero.

    Vectors overrun a row's values and a row: what they write there is zero, or is written after.
    """
    spec, planes = rows_of_x.spec, rows_of_x.spec.matrix.planes
    (kh, sh, ph, dh), (_, _, pw, _) = spec.axes
    c, pitch = spec.channels, rows_of_x.pitch
    lanes = bf16.LANES
    zero = ir.Constant(ir.VectorType(_I16, lanes), None)
    room = code.max(code.sub(pitch, pw * c), 0)
    count = code.min(code.mul(rows_of_x.width, c), room)
    top = code.sub(code.mul(first, sh), ph)
    lines = code.add(code.mul(code.sub(rows, 1), sh), (kh - 1) * dh + 1)
    with code.loop(0, lines) as line:
        y = code.add(top, line.index)
        out = code.at(rows_of_x.at, code.mul(code.mul(line.index, pitch), 2), I8)
        for part in range(planes):
            base = code.at(out, code.mul(rows_of_x.part, part), I8)
            with code.loop(0, pitch, lanes) as at:
                code.vstore(zero, code.at(base, at.index, _I16))
        with code.when(code.b.icmp_unsigned("<", i64(y), i64(rows_of_x.height))):
            source = code.at(image, code.mul(code.mul(y, rows_of_x.width), c))
            with code.loop(0, count, lanes) as at:
                mask = code.first_lanes(code.sub(count, at.index), lanes)
                value = code.vload(code.at(source, at.index), lanes, mask)
                place = code.add(at.index, pw * c)
                for part, half in enumerate(bf16.split(code, value, planes)):
                    base = code.at(out, code.mul(rows_of_x.part, part), I8)
                    code.vstore(half, code.at(base, place, _I16))


def _gather(code: Code, rows_of_x: Rows, rows: Int, columns: Int, out: ir.Value) -> None:
    """The filter rows of every output pixel to tiles of A, a line of 32 values each."""
    spec = rows_of_x.spec
    planes, steps = spec.matrix.planes, spec.run_steps
    (kh, sh, _, dh), (_, sw, _, _) = spec.axes
    tile = row_tile_bytes(spec.matrix.k, planes)
    with code.loop(0, rows) as row, code.loop(0, columns) as column:
        pixel = code.add(code.mul(row.index, columns), column.index)
        base = code.mul(code.div(pixel, ROWS), tile)
        target = code.at(out, code.add(base, code.mul(code.rem(pixel, ROWS), ROW_BYTES)), I8)
        start = code.mul(column.index, sw * spec.channels)
        for t in range(kh):
            line = code.mul(code.add(code.mul(row.index, sh), t * dh), rows_of_x.pitch)
            source = code.at(rows_of_x.at, code.mul(code.add(line, start), 2), I8)
            for step in range(steps):
                left = spec.run - step * STEP
                mask = code.first_lanes(left, STEP) if left < STEP else None
                for part in range(planes):
                    place = code.add(code.mul(rows_of_x.part, part), 2 * STEP * step)
                    value = code.vload(code.at(source, place, I8), STEP, mask, _I16)
                    at = ((t * steps + step) * planes + part) * TILE_BYTES
                    code.vstore(value, code.at(target, at, I8))

"""LLVM emitter of the 8-bit convolution of f32 pixels."""

from __future__ import annotations

from llvmlite import ir

from tilewright.backends.kernels.f32_conv.frame import Conv, units
from tilewright.backends.kernels.f32_conv.gather import emit_gather
from tilewright.backends.kernels.int8_scaled_conv.pixels import Lines, emit_codes, emit_not_finite
from tilewright.backends.kernels.int8_scaled_conv.spec import (
    WORD,
    Int8ScaledConvSpec,
    gathered_bytes,
    row_bytes,
)
from tilewright.backends.kernels.int8_scaled_conv.taps import emit_taps
from tilewright.backends.llvm import formats, int8, int8_scaled_gemm
from tilewright.backends.llvm.builder import I8, Code, Int
from tilewright.backends.llvm.frame import Frame, TileSplit
from tilewright.backends.llvm.int8 import Dots
from tilewright.backends.llvm.int8_block import MOST_ROW_BYTES, emit_block, steps
from tilewright.backends.llvm.int8_scaled_product import SCRATCH_BYTES, Finish, Product
from tilewright.backends.target import Target


def supports(target: Target) -> bool:
    """Targets with products of 8- or 16-bit integers: all of x86-64, Arm with dot products."""
    return int8.of(target) is not None


def emit(module: ir.Module, spec: Int8ScaledConvSpec, target: Target, name: str) -> ir.Function:
    """Add the kernel ``name`` for ``spec`` to ``module``."""
    d = int8.dots(target)
    frame = Frame.open(module, target, name)
    code, scratch = frame.code, frame.scratch
    conv = Conv.load(frame, spec.words, spec.epilogue)
    scales = code.at(scratch, SCRATCH_BYTES, I8)
    middles = code.at(scales, row_bytes(spec), I8)
    block_a = code.at(middles, row_bytes(spec), I8)
    gathered = code.at(block_a, spec.rows_per_unit * steps(spec.k) * MOST_ROW_BYTES, I8)
    codes = code.at(gathered, gathered_bytes(spec), I8)
    reading = code.at(conv.w, spec.matrix.packed_bytes, I8)
    factor, zero, step, middle = (code.load(code.at(reading, i)) for i in range(4))

    split = TileSplit.of(code, conv.g.pixels, spec.rows_per_unit)
    int8_scaled_gemm.begin(code, conv.g.pixels)
    # Units of one block of pixels follow each other: its rows are made once a thread.
    with units(spec).each(code, frame.begin, frame.end) as unit:
        start, rows = split.block(code, unit.block)
        with code.when(unit.fresh):
            flip = _flip(code, d, rows)
            lines = Lines.of(code, conv.g, start, rows)
            size = code.mul(lines.words, WORD)
            source = code.at(conv.x, code.mul(lines.first, size), formats.ELEMENT[spec.x])
            count = code.mul(lines.count, size)
            how = (factor, zero, flip)
            odd = emit_codes(code, d, source, spec.x, count, codes, how)
            pixel = code.at(codes, code.sub(0, code.mul(lines.first, size)), I8)
            outside = _outside(code, d, zero, flip)
            if spec.in_steps:
                emit_taps(code, d, conv.g, pixel, outside, start, rows, block_a)
            else:
                words = code.b.bitcast(outside, code.vector(d.lanes))
                emit_gather(code, conv.g, pixel, gathered, start, rows, 0, words)
                stride = WORD * spec.words.row_stride
                # Codes are held already: nothing is to be added to them.
                as_is = d.held != "u8"
                emit_block(code, d, gathered, stride, rows, spec.k, as_is, block_a)
            with code.loop(0, rows) as row:
                code.store(step, code.at(scales, row.index))
                code.store(middle, code.at(middles, row.index))
            with code.when(code.b.fcmp_unordered("uno", odd, odd)):
                emit_not_finite(code, conv.g, conv.x, spec.x, start, rows, scales)
        product = Product(
            a=block_a,
            tail=None,
            b=conv.w,
            k=spec.k,
            finish=Finish(spec.out_channels, spec.epilogue, spec.y, False, row_bytes(spec) // 4),
            c=conv.result(code, start, 0, formats.ELEMENT[spec.y]),
            ldc=conv.g.ldy,
            scales=scales,
            scratch=scratch,
            operands=conv.operands,
            row=start,
        )
        int8_scaled_gemm.emit_rows(code, product, rows, unit.first, unit.last)
    int8_scaled_gemm.end(code, conv.g.pixels)
    return frame.close()


def _flip(code: Code, d: Dots, rows: Int) -> ir.Value:
    """What codes are xor-ed with, i8: dot products of u8 x s8 hold them as u8, tiles do not."""
    held = ir.Constant(I8, d.shift(True))
    tiles = int8_scaled_gemm.by_tiles(code, rows)
    return held if tiles is None else code.b.select(tiles, ir.Constant(I8, 0), held)


def _outside(code: Code, d: Dots, zero: ir.Value, flip: ir.Value) -> ir.Value:
    """The code of pixels outside of X, in every byte of a vector."""
    found = code.b.xor(code.b.fptosi(zero, I8), flip)
    return code.splat(found, 4 * d.lanes, I8)

"""LLVM emitter of the 8-bit convolution."""

from __future__ import annotations

from llvmlite import ir

from tilewright.backends.kernels.f32_conv.frame import Conv, units
from tilewright.backends.kernels.f32_conv.gather import emit_gather
from tilewright.backends.kernels.int8_conv.spec import WORD, Int8ConvSpec, gathered_bytes
from tilewright.backends.llvm import int8, int8_gemm
from tilewright.backends.llvm.builder import I8
from tilewright.backends.llvm.frame import Frame, TileSplit
from tilewright.backends.llvm.int8_block import emit_block, emit_sums
from tilewright.backends.target import Target


def supports(target: Target) -> bool:
    """Targets with products of 8- or 16-bit integers: all of x86-64, Arm with dot products."""
    return int8.of(target) is not None


def emit(module: ir.Module, spec: Int8ConvSpec, target: Target, name: str) -> ir.Function:
    """Add the kernel ``name`` for ``spec`` to ``module``."""
    d = int8.dots(target)
    frame = Frame.open(module, target, name)
    code, scratch, matrix = frame.code, frame.scratch, spec.matrix
    # Four channels are moved as one f32, which keeps every bit.
    conv = Conv.load(frame, spec.words, spec.epilogue, spec.given)
    fill = None
    if spec.fill:
        bytes_of_fill = code.splat(code.load(frame.pointer(2), I8), WORD * target.lanes_f32)
        fill = code.b.bitcast(bytes_of_fill, code.vector(target.lanes_f32))
    sums = code.at(scratch, int8_gemm.SCRATCH_BYTES, I8)
    gathered = code.at(sums, 4 * spec.rows_per_unit, I8)
    block_a = code.at(gathered, gathered_bytes(spec), I8)
    split = TileSplit.of(code, conv.g.pixels, spec.rows_per_unit)
    int8_gemm.begin(code, conv.g.pixels)
    # Units of one pixel block and group follow each other: gathered once a thread.
    with units(spec).each(code, frame.begin, frame.end) as unit:
        start, rows = split.block(code, unit.block)
        with code.when(unit.fresh):
            source, stride = conv.pixel(code, start), spec.channels
            if not spec.pointwise:
                emit_gather(code, conv.g, conv.x, gathered, start, rows, unit.group, fill)
                source, stride = gathered, WORD * spec.words.row_stride
            emit_block(code, d, source, stride, rows, spec.k, matrix.signed, block_a)
            if matrix.zero_points:
                emit_sums(code, d, block_a, rows, spec.k, matrix.signed, sums)
        column = code.mul(unit.group, spec.group_outputs)
        product = int8_gemm.Product(
            a=block_a,
            b=code.at(conv.w, code.mul(unit.group, matrix.packed_bytes), I8),
            k=spec.k,
            shift=d.shift(matrix.signed),
            zero_points=matrix.zero_points,
            c=conv.result(code, start, column, int8_gemm.ELEMENTS[spec.out]),
            ldc=conv.g.ldy,
            n=spec.group_outputs,
            out=spec.out,
            scratch=scratch,
            sums=sums,
            epilogue=spec.epilogue,
            operands=conv.operands,
            row=start,
            column=column,
        )
        int8_gemm.emit_rows(code, product, rows, unit.first, unit.last)
    int8_gemm.end(code, conv.g.pixels)
    return frame.close()

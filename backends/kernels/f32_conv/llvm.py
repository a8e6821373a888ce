"""LLVM emitter of the f32 convolution."""

from __future__ import annotations

from llvmlite import ir

from tilewright.backends.kernels.f32_conv.depthwise import emit_depthwise
from tilewright.backends.kernels.f32_conv.frame import Conv, units
from tilewright.backends.kernels.f32_conv.gather import emit_gather
from tilewright.backends.kernels.f32_conv.spec import ConvSpec, sums_bytes
from tilewright.backends.llvm import gemm
from tilewright.backends.llvm.builder import I8
from tilewright.backends.llvm.frame import Frame, Split
from tilewright.backends.llvm.microkernel import PANEL
from tilewright.backends.target import Target


def emit(module: ir.Module, spec: ConvSpec, target: Target, name: str) -> ir.Function:
    """Add the kernel ``name`` for ``spec`` to ``module``."""
    frame = Frame.open(module, target, name)
    code, scratch = frame.code, frame.scratch
    conv = Conv.load(frame, spec, spec.epilogue)
    if spec.depthwise:
        emit_depthwise(frame, conv)
        return frame.close()

    sums = code.at(scratch, gemm.TILE_BYTES, I8)
    gathered = code.at(sums, sums_bytes(spec), I8)
    split = Split.of(code, conv.g.pixels, spec.rows_per_unit)
    # Units of one pixel block follow each other, so its rows are gathered once a thread.
    with units(spec).each(code, frame.begin, frame.end) as unit:
        start, rows = split.block(code, unit.block)
        a, lda = conv.pixel(code, start), spec.channels
        if not spec.pointwise:
            a, lda = gathered, spec.row_stride
            with code.when(unit.fresh):
                emit_gather(code, conv.g, conv.x, gathered, start, rows, unit.group)
        column = code.mul(unit.group, spec.group_outputs)
        product = gemm.Product(
            a=a,
            lda=lda,
            b=code.at(conv.w, code.mul(unit.group, spec.panels * spec.k * PANEL)),
            k=spec.k,
            c=conv.result(code, start, column),
            ldc=conv.g.ldy,
            n=spec.group_outputs,
            tile=scratch,
            epilogue=spec.epilogue,
            operands=conv.operands,
            row=start,
            column=column,
            ahead=True,
            depth=spec.depth if spec.sliced else None,
            sums=sums if spec.sliced else None,
        )
        gemm.emit_rows(code, product, rows, unit.first, unit.last)
    return frame.close()

"""LLVM emitter of the bf16 convolution."""

from __future__ import annotations

from llvmlite import ir

from tilewright.backends.kernels.bf16_conv.spec import Bf16ConvSpec, gathered_bytes
from tilewright.backends.kernels.f32_conv.frame import Conv, units
from tilewright.backends.kernels.f32_conv.gather import emit_gather
from tilewright.backends.llvm import bf16, bf16_gemm
from tilewright.backends.llvm.bf16_block import emit_block
from tilewright.backends.llvm.builder import I8
from tilewright.backends.llvm.frame import Frame, TileSplit
from tilewright.backends.target import Target


def supports(target: Target) -> bool:
    """Targets with bf16 instructions on 512-bit vectors; AMX where they have it."""
    return bf16.has_dots(target)


def emit(module: ir.Module, spec: Bf16ConvSpec, target: Target, name: str) -> ir.Function:
    """Add the kernel ``name`` for ``spec`` to ``module``."""
    if not supports(target):
        raise ValueError(f"target '{target.name}' has no bf16 instructions")
    frame = Frame.open(module, target, name)
    code, scratch, matrix = frame.code, frame.scratch, spec.matrix
    conv = Conv.load(frame, spec, spec.epilogue)
    gathered = code.at(scratch, bf16_gemm.SCRATCH_BYTES, I8)
    block_a = code.at(gathered, gathered_bytes(spec), I8)
    bytes_b = spec.panels * bf16_gemm.panel_bytes(spec.k, matrix.planes)
    split = TileSplit.of(code, conv.g.pixels, spec.rows_per_unit)
    bf16_gemm.begin(code, conv.g.pixels)
    # Units of one pixel block and group follow each other: gathered and converted once a thread.
    with units(spec).each(code, frame.begin, frame.end) as unit:
        start, rows = split.block(code, unit.block)
        with code.when(unit.fresh):
            source, stride = conv.pixel(code, start), spec.channels
            if not spec.pointwise:
                emit_gather(code, conv.g, conv.x, gathered, start, rows, unit.group)
                source, stride = gathered, spec.row_stride
            emit_block(code, source, stride, rows, spec.k, matrix.planes, block_a)
        column = code.mul(unit.group, spec.group_outputs)
        product = bf16_gemm.Product(
            a=block_a,
            b=code.at(conv.w, code.mul(unit.group, bytes_b), I8),
            k=spec.k,
            products=spec.products,
            c=conv.result(code, start, column),
            ldc=conv.g.ldy,
            n=spec.group_outputs,
            tile=scratch,
            epilogue=spec.epilogue,
            operands=conv.operands,
            row=start,
            column=column,
        )
        bf16_gemm.emit_rows(code, product, rows, unit.first, unit.last)
    bf16_gemm.end(code, conv.g.pixels)
    return frame.close()

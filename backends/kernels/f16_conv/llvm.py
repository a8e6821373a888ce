"""LLVM emitter of the f16 convolution."""

from __future__ import annotations

from llvmlite import ir

from tilewright.backends.kernels.f16_conv.spec import F16ConvSpec, gathered_bytes
from tilewright.backends.kernels.f32_conv.frame import Conv, units
from tilewright.backends.kernels.f32_conv.gather import emit_gather
from tilewright.backends.llvm import f16_gemm
from tilewright.backends.llvm.builder import I8
from tilewright.backends.llvm.f16_gemm import F16
from tilewright.backends.llvm.frame import Frame, Split
from tilewright.backends.llvm.microkernel import PANEL
from tilewright.backends.target import Target


def supports(target: Target) -> bool:
    """Targets that convert f16 in registers."""
    return f16_gemm.widens(target)


def emit(module: ir.Module, spec: F16ConvSpec, target: Target, name: str) -> ir.Function:
    """Add the kernel ``name`` for ``spec`` to ``module``."""
    if not supports(target) or (spec.chain and not f16_gemm.has_chains(target)):
        raise ValueError(f"target '{target.name}' has no such f16 instructions")
    frame = Frame.open(module, target, name)
    code, scratch = frame.code, frame.scratch
    conv = Conv.load(frame, spec, spec.epilogue)
    gathered = code.at(scratch, f16_gemm.SCRATCH_BYTES, I8)
    rest = code.at(gathered, gathered_bytes(spec), I8)
    split = Split.of(code, conv.g.pixels, spec.rows_per_unit)
    # Units of one pixel block and group follow each other: gathered and rounded once a thread.
    with units(spec).each(code, frame.begin, frame.end) as unit:
        start, rows = split.block(code, unit.block)
        a, lda = conv.pixel(code, start), spec.channels
        if not spec.pointwise:
            a, lda = gathered, spec.row_stride
        with code.when(unit.fresh):
            if not spec.pointwise:
                emit_gather(code, conv.g, conv.x, gathered, start, rows, unit.group)
            if spec.chain:
                f16_gemm.emit_rounded(code, a, lda, rows, spec.k, rest)
        if spec.chain:
            a, lda = rest, f16_gemm.row_stride(spec.k)
        column = code.mul(unit.group, spec.group_outputs)
        product = f16_gemm.Product(
            a=a,
            lda=lda,
            b=code.at(conv.w, code.mul(unit.group, spec.panels * spec.k * PANEL), F16),
            k=spec.k,
            chain=spec.chain,
            c=conv.result(code, start, column),
            ldc=conv.g.ldy,
            n=spec.group_outputs,
            tile=scratch,
            epilogue=spec.epilogue,
            operands=conv.operands,
            wide=rest,
            depth=spec.matrix.depth,
            row=start,
            column=column,
        )
        f16_gemm.emit_rows(code, product, rows, unit.first, unit.last)
    return frame.close()

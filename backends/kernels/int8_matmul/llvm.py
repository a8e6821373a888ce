"""LLVM emitter of the 8-bit matmul with packed constant B."""

from __future__ import annotations

from llvmlite import ir

from tilewright.backends.kernels.int8_matmul.spec import Int8MatmulSpec
from tilewright.backends.llvm import int8, int8_gemm
from tilewright.backends.llvm.builder import F32, I8, Int
from tilewright.backends.llvm.frame import Frame, Matmul, TileSplit, Units
from tilewright.backends.llvm.int8_block import emit_block, emit_sums
from tilewright.backends.llvm.int8_quantize import emit_quantized_tensor
from tilewright.backends.target import Target


def supports(target: Target) -> bool:
    """Targets with products of 8- or 16-bit integers: x86-64, Arm with dot products, GPUs."""
    return target.gpu or int8.of(target) is not None


def emit(module: ir.Module, spec: Int8MatmulSpec, target: Target, name: str) -> ir.Function:
    """Add the kernel ``name`` for ``spec`` to ``module``."""
    d = int8.dots(target)
    frame = Frame.open(module, target, name)
    code, scratch = frame.code, frame.scratch
    x = Matmul.load(frame, spec.epilogue, before=spec.given)
    sums = code.at(scratch, int8_gemm.SCRATCH_BYTES, I8)
    block_a = code.at(sums, 4 * spec.rows_per_unit, I8)
    split = TileSplit.of(code, x.m, spec.rows_per_unit)

    def take(start: Int, rows: Int) -> None:
        if spec.a == "f32_tensor":
            source = code.at(x.a, code.mul(start, x.lda), F32)
            scale, zero = code.load(frame.pointer(2)), code.load(frame.pointer(3), I8)
            emit_quantized_tensor(code, d, source, x.lda, rows, spec.k, scale, zero, block_a)
        else:
            source = code.at(x.a, code.mul(start, x.lda), I8)
            emit_block(code, d, source, x.lda, rows, spec.k, spec.signed, block_a)
        if spec.zero_points:
            emit_sums(code, d, block_a, rows, spec.k, spec.signed, sums)

    int8_gemm.begin(code, x.m)
    # Units of one block follow each other, so its rows are taken once a thread.
    with Units(spec.panel_count, spec.panels_per_unit).each(code, frame.begin, frame.end) as unit:
        start, rows = split.block(code, unit.block)
        with code.when(unit.fresh):
            take(start, rows)
        product = int8_gemm.Product(
            a=block_a,
            b=x.b,
            k=spec.k,
            shift=d.shift(spec.signed),
            zero_points=spec.zero_points,
            c=code.at(x.c, code.mul(start, x.ldc), int8_gemm.ELEMENTS[spec.out]),
            ldc=x.ldc,
            n=spec.n,
            out=spec.out,
            scratch=scratch,
            sums=sums,
            epilogue=spec.epilogue,
            operands=x.operands,
            row=start,
        )
        int8_gemm.emit_rows(code, product, rows, unit.first, unit.last)
    int8_gemm.end(code, x.m)
    return frame.close()

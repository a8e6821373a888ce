"""LLVM emitter of the 8-bit matmul with packed constant B."""

from __future__ import annotations

from llvmlite import ir

from tilewright.backends.kernels.int8_matmul.spec import Int8MatmulSpec
from tilewright.backends.llvm import gemm, int8, int8_gemm
from tilewright.backends.llvm.amx import ROWS
from tilewright.backends.llvm.builder import F32, I8, KERNEL_TYPE, Code, Int, i64
from tilewright.backends.llvm.epilogue import load_extras
from tilewright.backends.llvm.int8_block import emit_block, emit_sums
from tilewright.backends.llvm.int8_quantize import emit_quantized_rows, emit_quantized_tensor
from tilewright.backends.target import Target


def supports(target: Target) -> bool:
    """Targets with products of 8- or 16-bit integers: all of x86-64, Arm with dot products."""
    return int8.of(target) is not None


def emit(module: ir.Module, spec: Int8MatmulSpec, target: Target, name: str) -> ir.Function:
    """Add the kernel ``name`` for ``spec`` to ``module``."""
    d = int8.dots(target)
    fn = ir.Function(module, KERNEL_TYPE, name)
    args, dims, begin, end, scratch = fn.args
    code = Code(ir.IRBuilder(fn.append_basic_block("entry")), target)
    m, lda, ldc = (gemm.load_dim(code, dims, i) for i in range(3))
    pointers = [gemm.load_pointer(code, args, i) for i in range(spec.given)]
    a, b = pointers[:2]
    operands = load_extras(code, spec.epilogue, args, spec.given, dims, 3)
    c = gemm.load_pointer(code, args, spec.given + len(operands))

    sums = code.at(scratch, int8_gemm.SCRATCH_BYTES, I8)
    scales = code.at(sums, 4 * spec.rows_per_unit, I8)
    block_a = code.at(scales, 4 * spec.rows_per_unit, I8)
    across = -(-spec.panel_count // spec.panels_per_unit)
    # Blocks of nearly equal size, whole pairs of tiles; none is empty, as rows_per_unit is a
    # multiple of such pairs too.
    blocks = code.max(code.ceildiv(m, spec.rows_per_unit), 1)
    size = code.round_up(code.ceildiv(m, blocks), 2 * ROWS)

    def take(start: Int, rows: Int) -> None:
        if spec.a == "f32_rows":
            source = code.at(a, code.mul(start, lda), F32)
            emit_quantized_rows(code, d, source, lda, rows, spec.k, block_a, scales)
        elif spec.a == "f32_tensor":
            source = code.at(a, code.mul(start, lda), F32)
            scale = code.load(pointers[2])
            zero = code.load(pointers[3], I8)
            emit_quantized_tensor(code, d, source, lda, rows, spec.k, scale, zero, block_a)
        else:
            source = code.at(a, code.mul(start, lda), I8)
            emit_block(code, d, source, lda, rows, spec.k, spec.signed, block_a)
        if spec.zero_points:
            emit_sums(code, d, block_a, rows, spec.k, spec.signed, sums)

    int8_gemm.begin(code, m)
    # Units of one block follow each other, so its rows are taken once a thread.
    with code.loop(begin, end, 1, [i64(-1)]) as unit:
        block = code.div(unit.index, across)
        start = code.mul(block, size)
        rows = code.min(code.sub(m, start), size)
        with code.when(code.cmp("!=", block, unit.carried[0])):
            take(start, rows)
        unit.next = [i64(block)]
        first = code.mul(code.rem(unit.index, across), spec.panels_per_unit)
        last = code.min(code.add(first, spec.panels_per_unit), spec.panel_count)
        product = int8_gemm.Product(
            a=block_a,
            b=b,
            k=spec.k,
            shift=d.shift(spec.signed),
            zero_points=spec.zero_points,
            c=code.at(c, code.mul(start, ldc), int8_gemm.ELEMENTS[spec.out]),
            ldc=ldc,
            n=spec.n,
            out=spec.out,
            scratch=scratch,
            sums=sums,
            scales=scales if spec.a == "f32_rows" else None,
            epilogue=spec.epilogue,
            operands=operands,
            row=start,
        )
        int8_gemm.emit_rows(code, product, rows, first, last)
    int8_gemm.end(code, m)
    gemm.ok(code)
    return fn

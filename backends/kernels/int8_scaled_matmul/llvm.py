"""LLVM emitter of the 8-bit matmul with scales."""

from __future__ import annotations

from llvmlite import ir

from tilewright.backends.kernels.int8_scaled_matmul.spec import ScaledMatmulSpec, row_bytes
from tilewright.backends.llvm import formats, gemm, int8, int8_scaled_gemm
from tilewright.backends.llvm.amx import ROWS, TILE_BYTES
from tilewright.backends.llvm.builder import I8, KERNEL_TYPE, Code
from tilewright.backends.llvm.epilogue import load_extras
from tilewright.backends.llvm.int8_rows import Copies, Rows, Split, emit_rows
from tilewright.backends.llvm.int8_scaled_product import SCRATCH_BYTES, Finish, Product
from tilewright.backends.target import Target


def supports(target: Target) -> bool:
    """Targets with products of 8- or 16-bit integers: all of x86-64, Arm with dot products."""
    return int8.of(target) is not None


def emit(module: ir.Module, spec: ScaledMatmulSpec, target: Target, name: str) -> ir.Function:
    """Add the kernel ``name`` for ``spec`` to ``module``."""
    d = int8.dots(target)
    fn = ir.Function(module, KERNEL_TYPE, name)
    args, dims, begin, end, scratch = fn.args
    code = Code(ir.IRBuilder(fn.append_basic_block("entry")), target)
    m, lda, ldc = (gemm.load_dim(code, dims, i) for i in range(3))
    a, b = gemm.load_pointer(code, args, 0), gemm.load_pointer(code, args, 1)
    operands = load_extras(code, spec.epilogue, args, 2, dims, 3)
    c = gemm.load_pointer(code, args, 2 + len(operands))

    scales = code.at(scratch, SCRATCH_BYTES, I8)
    factors = code.at(scales, row_bytes(spec), I8)
    tail = code.at(factors, 4 * ROWS, I8)
    across = -(-spec.panel_count // spec.panels_per_unit)
    # Blocks of nearly equal size, whole pairs of tiles; none is empty, as rows_per_unit is a
    # multiple of such pairs too.
    blocks = code.max(code.ceildiv(m, spec.rows_per_unit), 1)
    size = code.round_up(code.ceildiv(m, blocks), 2 * ROWS)
    most = code.ceildiv(code.min(m, spec.rows_per_unit), ROWS)
    block_a = code.at(tail, code.mul(most, TILE_BYTES if spec.outliers else 0), I8)
    apart: Split | Copies | None = None
    table = code.at(b, spec.panel_count * spec.panel_bytes, I8)
    channels = code.at(table, spec.table_bytes, I8)
    if spec.outliers:
        apart = Split(table, channels, spec.outliers, tail)
    elif spec.copies:
        low, high = (code.at(channels, 4 * i * spec.copies, I8) for i in (1, 2))
        apart = Copies(table, channels, low, high, spec.copies)

    int8_scaled_gemm.begin(code, m)
    # Units of one block of rows are one piece of work, so its rows are quantized once.
    with code.loop(code.div(begin, across), code.ceildiv(end, across)) as block:
        start = code.mul(block.index, size)
        rows = code.min(code.sub(m, start), size)
        own = Rows(code.at(a, code.mul(start, lda), formats.ELEMENT[spec.a]), lda, spec.k, spec.a)
        signed = int8_scaled_gemm.by_tiles(code, rows)
        emit_rows(code, d, own, rows, block_a, scales, factors, apart, signed)
        base = code.mul(block.index, across)
        first = code.mul(code.max(code.sub(begin, base), 0), spec.panels_per_unit)
        last = code.mul(code.min(code.sub(end, base), across), spec.panels_per_unit)
        product = Product(
            a=block_a,
            tail=tail if spec.outliers else None,
            b=b,
            k=spec.depth,
            finish=Finish(spec.n, spec.epilogue, spec.c, spec.outliers > 0),
            c=code.at(c, code.mul(start, ldc), formats.ELEMENT[spec.c]),
            ldc=ldc,
            scales=scales,
            scratch=scratch,
            operands=operands,
            row=start,
        )
        last = code.min(last, spec.panel_count)
        int8_scaled_gemm.emit_rows(code, product, rows, first, last)
    int8_scaled_gemm.end(code, m)
    gemm.ok(code)
    return fn

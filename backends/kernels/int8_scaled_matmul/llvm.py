"""LLVM emitter of the 8-bit matmul with scales."""

from __future__ import annotations

from llvmlite import ir

from tilewright.backends.kernels.int8_scaled_matmul.spec import (
    ScaledMatmulSpec,
    norm_bytes,
    row_bytes,
)
from tilewright.backends.llvm import formats, int8, int8_scaled_gemm, normalization
from tilewright.backends.llvm.amx import ROWS, TILE_BYTES
from tilewright.backends.llvm.builder import I8
from tilewright.backends.llvm.frame import Frame, Matmul, TileSplit, Units
from tilewright.backends.llvm.int8_normed_rows import Normed
from tilewright.backends.llvm.int8_rewritten_rows import Rewriting, emit_rewritten_rows, room_bytes
from tilewright.backends.llvm.int8_rows import Copies, Rows, Split, emit_rows
from tilewright.backends.llvm.int8_scaled_product import SCRATCH_BYTES, Finish, Product
from tilewright.backends.target import Target


def supports(target: Target) -> bool:
    """Targets with products of 8- or 16-bit integers: all of x86-64, Arm with dot products."""
    return int8.of(target) is not None


def emit(module: ir.Module, spec: ScaledMatmulSpec, target: Target, name: str) -> ir.Function:
    """Add the kernel ``name`` for ``spec`` to ``module``."""
    d = int8.dots(target)
    frame = Frame.open(module, target, name)
    code, scratch = frame.code, frame.scratch
    norm = spec.norm
    x = Matmul.load(frame, spec.epilogue, after=norm.arguments if norm else 0)

    scales = code.at(scratch, SCRATCH_BYTES, I8)
    middles = code.at(scales, row_bytes(spec), I8)
    factors = code.at(middles, row_bytes(spec), I8)
    room = code.at(factors, 4 * ROWS, I8)
    normed = code.at(room, room_bytes(spec.rewrite, spec.k), I8)
    tail = code.at(normed, norm_bytes(spec), I8)
    prepare = None
    if norm is not None:
        vectors = 2 + len(x.operands)
        rule = normalization.load(code, norm, spec.k, frame.args, vectors, normed)
        prepare = Normed(rule, normed)
    split = TileSplit.of(code, x.m, spec.rows_per_unit)
    most = code.ceildiv(code.min(x.m, spec.rows_per_unit), ROWS)
    block_a = code.at(tail, code.mul(most, TILE_BYTES if spec.outliers else 0), I8)
    apart: Split | Copies | None = None
    table = code.at(x.b, spec.panel_count * spec.panel_bytes, I8)
    channels = code.at(table, spec.table_bytes, I8)
    if spec.outliers:
        apart = Split(table, channels, spec.outliers, tail)
    elif spec.copies:
        low, high = (code.at(channels, 4 * i * spec.copies, I8) for i in (1, 2))
        apart = Copies(table, channels, low, high, spec.copies)

    int8_scaled_gemm.begin(code, x.m)
    # Units of one block of rows are one piece of work, so its rows are quantized once.
    middle = row_bytes(spec) // 4 if spec.rewrite == "range" else 0
    units = Units(spec.panel_count, spec.panels_per_unit)
    with units.blocks(code, frame.begin, frame.end) as block:
        start, rows = split.block(code, block.index)
        source = code.at(x.a, code.mul(start, x.lda), formats.ELEMENT[spec.a])
        own = Rows(source, x.lda, spec.k, spec.a)
        signed = int8_scaled_gemm.by_tiles(code, rows)
        if spec.rewrite:
            how = Rewriting(spec.rewrite, table, middles, room)
            emit_rewritten_rows(code, d, own, rows, block_a, scales, how, signed, prepare)
        else:
            emit_rows(code, d, own, rows, block_a, scales, factors, apart, signed, prepare)
        product = Product(
            a=block_a,
            tail=tail if spec.outliers else None,
            b=x.b,
            k=spec.depth,
            finish=Finish(spec.n, spec.epilogue, spec.c, spec.outliers > 0, middle),
            c=code.at(x.c, code.mul(start, x.ldc), formats.ELEMENT[spec.c]),
            ldc=x.ldc,
            scales=scales,
            scratch=scratch,
            operands=x.operands,
            row=start,
        )
        int8_scaled_gemm.emit_rows(code, product, rows, block.first, block.last)
    int8_scaled_gemm.end(code, x.m)
    return frame.close()

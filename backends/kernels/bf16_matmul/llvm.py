"""LLVM emitter of the bf16 matmul with packed constant B."""

from __future__ import annotations

from llvmlite import ir

from tilewright.backends.kernels.bf16_matmul.spec import Bf16MatmulSpec, block_offset
from tilewright.backends.llvm import amx, bf16, bf16_gemm, formats, gemm, normalization
from tilewright.backends.llvm.amx import ROWS
from tilewright.backends.llvm.bf16_block import emit_block, row_tile_bytes
from tilewright.backends.llvm.builder import I8, KERNEL_TYPE, Code
from tilewright.backends.llvm.epilogue import load_extras
from tilewright.backends.target import Target


def supports(target: Target) -> bool:
    """Targets with bf16 instructions on 512-bit vectors; AMX where they have it."""
    return bf16.has_dots(target)


def emit(module: ir.Module, spec: Bf16MatmulSpec, target: Target, name: str) -> ir.Function:
    """Add the kernel ``name`` for ``spec`` to ``module``."""
    if not supports(target):
        raise ValueError(f"target '{target.name}' has no bf16 instructions")
    fn = ir.Function(module, KERNEL_TYPE, name)
    args, dims, begin, end, scratch = fn.args
    code = Code(ir.IRBuilder(fn.append_basic_block("entry")), target)
    m, lda, ldc = (gemm.load_dim(code, dims, i) for i in range(3))
    a, b = gemm.load_pointer(code, args, 0), gemm.load_pointer(code, args, 1)
    operands = load_extras(code, spec.epilogue, args, 2, dims, 3)
    after, norm = 2 + len(operands), None
    if spec.norm is not None:
        statistics = code.at(scratch, bf16_gemm.SCRATCH_BYTES, I8)
        norm = normalization.load(code, spec.norm, spec.k, args, after, statistics)
        after += spec.norm.arguments
    c = gemm.load_pointer(code, args, after)

    across = -(-spec.panels // spec.panels_per_unit)
    # Blocks of nearly equal size, whole pairs of tiles; none is empty, as rows_per_unit is a
    # multiple of such pairs too.
    blocks = code.max(code.ceildiv(m, spec.rows_per_unit), 1)
    size = code.round_up(code.ceildiv(m, blocks), 2 * ROWS)
    row_bytes = row_tile_bytes(spec.k, spec.planes)
    block_a = code.at(scratch, block_offset(spec), I8)
    bf16_gemm.begin(code, m)
    # Units of one block of rows are one piece of work, so its rows are converted once.
    with code.loop(code.div(begin, across), code.ceildiv(end, across)) as block:
        start = code.mul(block.index, size)
        rows = code.min(code.sub(m, start), size)
        own = code.at(a, code.mul(start, lda), formats.ELEMENT[spec.a])
        direct = spec.direct and amx.has_bf16(target)
        done = bf16_gemm.block_from(code, rows) if direct else 0
        emit_block(
            code,
            code.at(own, code.mul(done, lda), formats.ELEMENT[spec.a]),
            lda,
            code.sub(rows, done),
            spec.k,
            spec.planes,
            code.at(block_a, code.mul(code.div(done, ROWS), row_bytes), I8),
            spec.a,
            norm,
        )
        base = code.mul(block.index, across)
        first = code.mul(code.max(code.sub(begin, base), 0), spec.panels_per_unit)
        last = code.mul(code.min(code.sub(end, base), across), spec.panels_per_unit)
        last = code.min(last, spec.panels)
        product = bf16_gemm.Product(
            a=block_a,
            b=b,
            k=spec.k,
            products=spec.products,
            c=code.at(c, code.mul(start, ldc), formats.ELEMENT[spec.c]),
            ldc=ldc,
            n=spec.n,
            tile=scratch,
            epilogue=spec.epilogue,
            operands=operands,
            row=start,
            stored=spec.c,
            rows_a=(own, lda) if direct else None,
        )
        bf16_gemm.emit_rows(code, product, rows, first, last)
    bf16_gemm.end(code, m)
    gemm.ok(code)
    return fn

"""LLVM emitter of the bf16 matmul with packed constant B."""

from __future__ import annotations

from llvmlite import ir

from tilewright.backends.kernels.bf16_matmul.spec import Bf16MatmulSpec, block_offset
from tilewright.backends.llvm import amx, bf16, bf16_gemm, formats, normalization
from tilewright.backends.llvm.amx import ROWS
from tilewright.backends.llvm.bf16_block import emit_block, row_tile_bytes
from tilewright.backends.llvm.builder import I8, Code, Int
from tilewright.backends.llvm.frame import Frame, Matmul, TileSplit, Units
from tilewright.backends.target import Target


def supports(target: Target) -> bool:
    """Targets with bf16 instructions on 512-bit vectors; AMX where they have it."""
    return bf16.has_dots(target)


def emit(module: ir.Module, spec: Bf16MatmulSpec, target: Target, name: str) -> ir.Function:
    """Add the kernel ``name`` for ``spec`` to ``module``."""
    if not supports(target):
        raise ValueError(f"target '{target.name}' has no bf16 instructions")
    frame = Frame.open(module, target, name)
    code, norm = frame.code, spec.norm
    x = Matmul.load(frame, spec.epilogue, after=norm.arguments if norm else 0)
    rule = None
    if norm is not None:
        statistics = code.at(frame.scratch, bf16_gemm.SCRATCH_BYTES, I8)
        vectors = 2 + len(x.operands)
        rule = normalization.load(code, norm, spec.k, frame.args, vectors, statistics)
    multiply(code, spec, x, frame.begin, frame.end, frame.scratch, rule)
    return frame.close()


def multiply(
    code: Code,
    spec: Bf16MatmulSpec,
    x: Matmul,
    begin: Int,
    end: Int,
    scratch: ir.Value,
    rule: normalization.Rows | None = None,
) -> None:
    """The units [begin, end); rule: that of ``spec.norm``."""
    split = TileSplit.of(code, x.m, spec.rows_per_unit)
    row_bytes = row_tile_bytes(spec.k, spec.planes)
    block_a = code.at(scratch, block_offset(spec), I8)
    bf16_gemm.begin(code, x.m)
    # Units of one block of rows are one piece of work, so its rows are converted once.
    units = Units(spec.panels, spec.panels_per_unit)
    with units.blocks(code, begin, end) as block:
        start, rows = split.block(code, block.index)
        own = code.at(x.a, code.mul(start, x.lda), formats.ELEMENT[spec.a])
        direct = spec.direct and amx.has_bf16(code.target)
        done = bf16_gemm.block_from(code, rows) if direct else 0
        emit_block(
            code,
            code.at(own, code.mul(done, x.lda), formats.ELEMENT[spec.a]),
            x.lda,
            code.sub(rows, done),
            spec.k,
            spec.planes,
            code.at(block_a, code.mul(code.div(done, ROWS), row_bytes), I8),
            spec.a,
            rule,
        )
        product = bf16_gemm.Product(
            a=block_a,
            b=x.b,
            k=spec.k,
            products=spec.products,
            c=code.at(x.c, code.mul(start, x.ldc), formats.ELEMENT[spec.c]),
            ldc=x.ldc,
            n=spec.n,
            tile=scratch,
            epilogue=spec.epilogue,
            operands=x.operands,
            row=start,
            stored=spec.c,
            rows_a=(own, x.lda) if direct else None,
        )
        bf16_gemm.emit_rows(code, product, rows, block.first, block.last)
    bf16_gemm.end(code, x.m)

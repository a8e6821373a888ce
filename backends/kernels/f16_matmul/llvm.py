"""LLVM emitter of the f16 matmul with packed constant B."""

from __future__ import annotations

from llvmlite import ir

from tilewright.backends.kernels.f16_matmul.spec import F16MatmulSpec
from tilewright.backends.llvm import f16_gemm
from tilewright.backends.llvm.builder import I8, i64
from tilewright.backends.llvm.frame import Frame, Matmul, Units
from tilewright.backends.target import Target


def supports(target: Target) -> bool:
    """Targets that convert f16 in registers."""
    return f16_gemm.widens(target)


def emit(module: ir.Module, spec: F16MatmulSpec, target: Target, name: str) -> ir.Function:
    """Add the kernel ``name`` for ``spec`` to ``module``."""
    if not supports(target) or (spec.chain and not f16_gemm.has_chains(target)):
        raise ValueError(f"target '{target.name}' has no such f16 instructions")
    frame = Frame.open(module, target, name)
    code, scratch = frame.code, frame.scratch
    x = Matmul.load(frame, spec.epilogue)
    rest = code.at(scratch, f16_gemm.SCRATCH_BYTES, I8)
    # Units of one block follow each other, so its rows are rounded once a thread.
    with Units(spec.panels, spec.panels_per_unit).each(code, frame.begin, frame.end) as unit:
        start = code.mul(unit.block, spec.rows_per_unit)
        rows = code.min(code.sub(x.m, start), spec.rows_per_unit)
        left, stride = code.at(x.a, code.mul(start, x.lda)), x.lda
        if spec.chain:
            with code.when(unit.fresh):
                f16_gemm.emit_rounded(code, left, x.lda, rows, spec.k, rest)
            left, stride = rest, i64(f16_gemm.row_stride(spec.k))
        product = f16_gemm.Product(
            a=left,
            lda=stride,
            b=x.b,
            k=spec.k,
            chain=spec.chain,
            c=code.at(x.c, code.mul(start, x.ldc)),
            ldc=x.ldc,
            n=spec.n,
            tile=scratch,
            epilogue=spec.epilogue,
            operands=x.operands,
            wide=rest,
            depth=spec.depth,
            row=start,
        )
        f16_gemm.emit_rows(code, product, rows, unit.first, unit.last)
    return frame.close()

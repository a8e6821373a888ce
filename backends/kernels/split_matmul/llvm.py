"""LLVM emitter of the split matmul with packed constant B."""

from __future__ import annotations

from llvmlite import ir

from tilewright.backends.kernels.split_matmul.spec import SplitMatmulSpec
from tilewright.backends.llvm import amx, gemm, split_gemm
from tilewright.backends.llvm.frame import Frame, Matmul, Units
from tilewright.backends.target import Target


def supports(target: Target) -> bool:
    """Targets with AMX: without it f32 is faster."""
    return amx.has_bf16(target)


def emit(module: ir.Module, spec: SplitMatmulSpec, target: Target, name: str) -> ir.Function:
    """Add the kernel ``name`` for ``spec`` to ``module``."""
    if not supports(target):
        raise ValueError(f"target '{target.name}' has no AMX tiles of bf16")
    frame = Frame.open(module, target, name)
    code = frame.code
    x = Matmul.load(frame, spec.epilogue)
    with code.either(code.cmp(">=", x.m, spec.from_rows)) as (many, few):
        with many:
            arrays = split_gemm.Arrays(
                frame.args, frame.dims, frame.scratch, x.a, x.lda, x.b, x.c, x.ldc, x.m
            )
            split_gemm.emit(code, spec.shape, arrays, frame.begin, frame.end)
        with few, Units(spec.panels, spec.panels_per_unit).each(code, frame.begin, frame.end) as u:
            product = gemm.Product(
                a=x.a,
                lda=x.lda,
                b=x.b,
                k=spec.k,
                c=x.c,
                ldc=x.ldc,
                n=spec.n,
                tile=frame.scratch,
                epilogue=spec.epilogue,
                operands=x.operands,
                ahead=True,
            )
            gemm.emit_rows(code, product, x.m, u.first, u.last)
    return frame.close()

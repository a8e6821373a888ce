"""LLVM emitter of the split matmul with packed constant B."""

from __future__ import annotations

from llvmlite import ir

from tilewright.backends.kernels.split_matmul.spec import SplitMatmulSpec
from tilewright.backends.llvm import amx, gemm, split_gemm
from tilewright.backends.llvm.builder import KERNEL_TYPE, Code
from tilewright.backends.llvm.epilogue import load_extras
from tilewright.backends.target import Target


def supports(target: Target) -> bool:
    """Targets with AMX: without it f32 is faster."""
    return amx.has_bf16(target)


def emit(module: ir.Module, spec: SplitMatmulSpec, target: Target, name: str) -> ir.Function:
    """Add the kernel ``name`` for ``spec`` to ``module``."""
    if not supports(target):
        raise ValueError(f"target '{target.name}' has no AMX tiles of bf16")
    fn = ir.Function(module, KERNEL_TYPE, name)
    args, dims, begin, end, scratch = fn.args
    code = Code(ir.IRBuilder(fn.append_basic_block("entry")), target)
    m, lda, ldc = (gemm.load_dim(code, dims, i) for i in range(3))
    a, b = gemm.load_pointer(code, args, 0), gemm.load_pointer(code, args, 1)
    operands = load_extras(code, spec.epilogue, args, 2, dims, 3)
    c = gemm.load_pointer(code, args, 2 + len(operands))
    with code.either(code.cmp(">=", m, spec.from_rows)) as (many, few):
        with many:
            arrays = split_gemm.Arrays(args, dims, scratch, a, lda, b, c, ldc, m)
            split_gemm.emit(code, spec.shape, arrays, begin, end)
        with few, code.loop(begin, end) as unit:
            first = code.mul(unit.index, spec.panels_per_unit)
            product = gemm.Product(
                a=a,
                lda=lda,
                b=b,
                k=spec.k,
                c=c,
                ldc=ldc,
                n=spec.n,
                tile=scratch,
                epilogue=spec.epilogue,
                operands=operands,
                ahead=True,
            )
            last = code.min(code.add(first, spec.panels_per_unit), spec.panels)
            gemm.emit_rows(code, product, m, first, last)
    gemm.ok(code)
    return fn

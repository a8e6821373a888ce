"""LLVM emitter of the f16 matmul with packed constant B."""

from __future__ import annotations

from llvmlite import ir

from tilewright.backends.kernels.f16_matmul.spec import F16MatmulSpec
from tilewright.backends.llvm import f16_gemm, gemm
from tilewright.backends.llvm.builder import I8, KERNEL_TYPE, Code, i64
from tilewright.backends.llvm.epilogue import load_extras
from tilewright.backends.target import Target


def supports(target: Target) -> bool:
    """Targets that convert f16 in registers."""
    return f16_gemm.widens(target)


def emit(module: ir.Module, spec: F16MatmulSpec, target: Target, name: str) -> ir.Function:
    """Add the kernel ``name`` for ``spec`` to ``module``."""
    if not supports(target) or (spec.chain and not f16_gemm.has_chains(target)):
        raise ValueError(f"target '{target.name}' has no such f16 instructions")
    fn = ir.Function(module, KERNEL_TYPE, name)
    args, dims, begin, end, scratch = fn.args
    code = Code(ir.IRBuilder(fn.append_basic_block("entry")), target)
    m, lda, ldc = (gemm.load_dim(code, dims, i) for i in range(3))
    a, b = gemm.load_pointer(code, args, 0), gemm.load_pointer(code, args, 1)
    operands = load_extras(code, spec.epilogue, args, 2, dims, 3)
    c = gemm.load_pointer(code, args, 2 + len(operands))
    across = -(-spec.panels // spec.panels_per_unit)
    rest = code.at(scratch, f16_gemm.SCRATCH_BYTES, I8)
    # Units of one block follow each other, so its rows are rounded once a thread.
    with code.loop(begin, end, 1, [i64(-1)]) as unit:
        block = code.div(unit.index, across)
        start = code.mul(block, spec.rows_per_unit)
        rows = code.min(code.sub(m, start), spec.rows_per_unit)
        left, stride = code.at(a, code.mul(start, lda)), lda
        if spec.chain:
            with code.when(code.cmp("!=", block, unit.carried[0])):
                f16_gemm.emit_rounded(code, left, lda, rows, spec.k, rest)
            left, stride = rest, i64(f16_gemm.row_stride(spec.k))
        unit.next = [i64(block)]
        first = code.mul(code.rem(unit.index, across), spec.panels_per_unit)
        last = code.min(code.add(first, spec.panels_per_unit), spec.panels)
        product = f16_gemm.Product(
            a=left,
            lda=stride,
            b=b,
            k=spec.k,
            chain=spec.chain,
            c=code.at(c, code.mul(start, ldc)),
            ldc=ldc,
            n=spec.n,
            tile=scratch,
            epilogue=spec.epilogue,
            operands=operands,
            wide=rest,
            depth=spec.depth,
            row=start,
        )
        f16_gemm.emit_rows(code, product, rows, first, last)
    gemm.ok(code)
    return fn

"""LLVM emitter of the f32 matmul with packed constant B."""

from __future__ import annotations

from llvmlite import ir

from tilewright.backends.kernels.f32_matmul.spec import MatmulSpec
from tilewright.backends.llvm import gemm
from tilewright.backends.llvm.builder import I8, KERNEL_TYPE, Code, Int
from tilewright.backends.llvm.epilogue import load_extras
from tilewright.backends.llvm.microkernel import few
from tilewright.backends.target import Target


def emit(module: ir.Module, spec: MatmulSpec, target: Target, name: str) -> ir.Function:
    """Add the kernel ``name`` for ``spec`` to ``module``."""
    fn = ir.Function(module, KERNEL_TYPE, name)
    args, dims, begin, end, scratch = fn.args
    code = Code(ir.IRBuilder(fn.append_basic_block("entry")), target)
    m, lda, ldc = (gemm.load_dim(code, dims, i) for i in range(3))
    a, b = gemm.load_pointer(code, args, 0), gemm.load_pointer(code, args, 1)
    operands = load_extras(code, spec.epilogue, args, 2, dims, 3)
    c = gemm.load_pointer(code, args, 2 + len(operands))

    def product(start: Int) -> gemm.Product:
        """From row ``start`` on."""
        return gemm.Product(
            a=code.at(a, code.mul(start, lda)),
            lda=lda,
            b=b,
            k=spec.k,
            c=code.at(c, code.mul(start, ldc)),
            ldc=ldc,
            n=spec.n,
            tile=scratch,
            epilogue=spec.epilogue,
            operands=operands,
            row=start,
            ahead=True,
            depth=spec.depth if spec.sliced else None,
            sums=code.at(scratch, gemm.TILE_BYTES, I8) if spec.sliced else None,
        )

    width = spec.panels_per_unit
    across = -(-spec.panels // width)
    with code.either(code.cmp("<=", m, few(target))) as (small, large):
        with small:
            # All units of a thread as one: wide blocks of panels whatever the width of a unit.
            first = code.mul(begin, width)
            last = code.min(code.mul(end, width), spec.panels)
            gemm.emit_few_rows(code, product(0), m, first, last)
        with large, code.loop(begin, end) as unit:
            split = gemm.Split.of(code, m, spec.rows_per_unit)
            start, rows = split.block(code, code.div(unit.index, across))
            first = code.mul(code.rem(unit.index, across), width)
            last = code.min(code.add(first, width), spec.panels)
            gemm.emit_many_rows(code, product(start), rows, first, last)
    gemm.ok(code)
    return fn

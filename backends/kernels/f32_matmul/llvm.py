"""LLVM emitter of the f32 matmul with packed constant B."""

from __future__ import annotations

from llvmlite import ir

from tilewright.backends.kernels.f32_matmul.spec import MatmulSpec
from tilewright.backends.llvm import gemm
from tilewright.backends.llvm.builder import I8, Code, Int
from tilewright.backends.llvm.frame import Frame, Matmul, Split, Units
from tilewright.backends.llvm.microkernel import few
from tilewright.backends.target import Target


def emit(module: ir.Module, spec: MatmulSpec, target: Target, name: str) -> ir.Function:
    """Add the kernel ``name`` for ``spec`` to ``module``."""
    frame = Frame.open(module, target, name)
    x = Matmul.load(frame, spec.epilogue)
    multiply(frame.code, spec, x, frame.begin, frame.end, frame.scratch)
    return frame.close()


def multiply(
    code: Code, spec: MatmulSpec, x: Matmul, begin: Int, end: Int, scratch: ir.Value
) -> None:
    """The units [begin, end)."""

    def product(start: Int) -> gemm.Product:
        """From row ``start`` on."""
        return gemm.Product(
            a=code.at(x.a, code.mul(start, x.lda)),
            lda=x.lda,
            b=x.b,
            k=spec.k,
            c=code.at(x.c, code.mul(start, x.ldc)),
            ldc=x.ldc,
            n=spec.n,
            tile=scratch,
            epilogue=spec.epilogue,
            operands=x.operands,
            row=start,
            ahead=True,
            depth=spec.depth if spec.sliced else None,
            sums=code.at(scratch, gemm.TILE_BYTES, I8) if spec.sliced else None,
        )

    units = Units(spec.panels, spec.panels_per_unit)
    with code.either(code.cmp("<=", x.m, few(code.target))) as (small, large):
        with small:
            # All units of a thread as one: wide blocks of panels whatever the width of a unit.
            first, last = units.span(code, begin, end)
            gemm.emit_few_rows(code, product(0), x.m, first, last)
        with large, units.each(code, begin, end) as unit:
            start, rows = Split.of(code, x.m, spec.rows_per_unit).block(code, unit.block)
            gemm.emit_many_rows(code, product(start), rows, unit.first, unit.last)

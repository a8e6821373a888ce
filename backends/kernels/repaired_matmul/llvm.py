"""LLVM emitter of the matmul with integer weights and a correction of low rank."""

from __future__ import annotations

from llvmlite import ir

from tilewright.backends.kernels.bf16_matmul import llvm as bf16_llvm
from tilewright.backends.kernels.factored_matmul.pair import MIDDLE
from tilewright.backends.kernels.grouped_matmul import llvm as grouped
from tilewright.backends.kernels.repaired_matmul.spec import RepairedMatmulSpec
from tilewright.backends.llvm import bf16
from tilewright.backends.llvm.bf16_microkernel import internal
from tilewright.backends.llvm.builder import I8, I64, PTR, VOID, Code, Int, i64
from tilewright.backends.llvm.epilogue import Operand, from_row
from tilewright.backends.llvm.frame import Frame, Matmul, TileSplit, Units
from tilewright.backends.llvm.microkernel import PANEL
from tilewright.backends.target import Target

_PRODUCT = ir.FunctionType(VOID, [I64, PTR, I64, PTR, PTR, PTR, I64, I64])


def supports(target: Target) -> bool:
    """Targets of grouped_matmul with bf16 instructions on 512-bit vectors."""
    return grouped.supports(target) and bf16.has_dots(target)


def emit(module: ir.Module, spec: RepairedMatmulSpec, target: Target, name: str) -> ir.Function:
    """Add the kernel ``name`` for ``spec`` to ``module``."""
    if not supports(target):
        raise ValueError(f"target '{target.name}' has no bf16 instructions")
    frame = Frame.open(module, target, name)
    code = frame.code
    x = Matmul.load(frame, spec.epilogue)
    most = code.round_up(code.min(x.m, spec.rows_per_unit), MIDDLE)
    middle = frame.scratch
    correction = code.at(middle, code.mul(most, spec.middle_bytes), I8)
    room = code.at(correction, code.mul(most, spec.correction))
    factors = code.at(x.b, spec.base_bytes, I8)
    d = code.at(factors, spec.factors.left_bytes, I8)
    split = TileSplit.of(code, x.m, spec.rows_per_unit)
    left_units = -(-spec.factors.left.panels // spec.factors.left.panels_per_unit)
    units = Units(spec.base.panels, spec.panels_per_unit)
    # Units of one block follow each other, so its middle is computed once a thread.
    with units.each(code, frame.begin, frame.end) as unit:
        start, rows = split.block(code, unit.block)
        own = code.at(x.a, code.mul(start, x.lda))
        with code.when(unit.fresh):
            args = [i64(rows), own, i64(x.lda), factors, middle, room, i64(0), i64(left_units)]
            code.b.call(_left(code, spec), args)
        begin, end = _span(code, unit.first, unit.last, spec.right.panels_per_unit)
        shifted = code.at(correction, code.mul(unit.first, -PANEL))
        stride = i64(spec.factors.stride)
        args = [i64(rows), middle, stride, d, shifted, room, i64(begin), i64(end)]
        code.b.call(_right(code, spec), args)
        extras = from_row(code, spec.epilogue, x.operands, start)
        operands = (Operand(shifted, spec.correction), *extras)
        c = code.at(x.c, code.mul(start, x.ldc))
        product = Matmul(rows, x.lda, x.ldc, own, x.b, operands, c)
        span = _span(code, unit.first, unit.last, spec.base.panels_per_unit)
        grouped.multiply(code, spec.base, product, *span, room)
    return frame.close()


def _span(code: Code, first: Int, last: Int, width: int) -> tuple[Int, Int]:
    """Units of so many panels that are the panels [first, last)."""
    return code.div(first, width), code.ceildiv(last, width)


def _left(code: Code, spec: RepairedMatmulSpec) -> ir.Function:
    """``void (rows, a, lda, packed, c, scratch, units)``: A B, in bf16. Each product is a function
    of its own, as products name the functions that they are made of after the one they are in."""
    name = f"{code.b.function.name}_left"
    found = code.module.globals.get(name)
    if found is not None:
        return found
    fn, code = internal(code, _PRODUCT, name)
    rows, a, lda, packed, c, room, begin, end = fn.args
    x = Matmul(rows, lda, spec.factors.stride, a, packed, (), c)
    bf16_llvm.multiply(code, spec.factors.left, x, begin, end, room)
    code.b.ret_void()
    return fn


def _right(code: Code, spec: RepairedMatmulSpec) -> ir.Function:
    """The same for the middle by D: the correction, in f32."""
    name = f"{code.b.function.name}_right"
    found = code.module.globals.get(name)
    if found is not None:
        return found
    fn, code = internal(code, _PRODUCT, name)
    rows, a, lda, packed, c, room, begin, end = fn.args
    x = Matmul(rows, lda, spec.correction, a, packed, (), c)
    bf16_llvm.multiply(code, spec.right, x, begin, end, room)
    code.b.ret_void()
    return fn
